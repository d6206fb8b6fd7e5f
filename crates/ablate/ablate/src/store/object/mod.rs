//! Object stores as the place of a store: S3, Google Cloud Storage, Azure.

#[cfg(feature = "object-store")]
mod claims;
#[cfg(feature = "object-store")]
mod connect;
mod error;
#[cfg(feature = "object-store")]
mod objects;

use std::sync::Arc;

pub(crate) use self::error::ObjectError;
use super::backend::Backend;

/// Whether it is a URL, and no path.
pub(crate) fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// The store at a URL.
///
/// # Errors
/// It is no URL of an object store, or this program was built without them.
#[cfg(feature = "object-store")]
pub(super) fn open(url: &str) -> Result<Arc<dyn Backend>, ObjectError> {
    Ok(Arc::new(objects::Objects::open(url)?))
}

/// The store at a URL, which takes a feature.
///
/// # Errors
/// Always.
#[cfg(not(feature = "object-store"))]
pub(super) fn open(url: &str) -> Result<Arc<dyn Backend>, ObjectError> {
    Err(ObjectError::NotBuilt(url.to_owned()))
}
