//! Clients of object stores, by URL.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use reqwest::Url;

use super::ObjectError;

/// Time for one request. States of large models take a while.
const TIMEOUT: &str = "120 seconds";

/// The provider of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    S3,
    Google,
    Azure,
}

/// The address of a store.
#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) provider: Provider,
    /// Path of the study within the bucket.
    pub(super) prefix: Path,
}

impl Address {
    /// # Errors
    /// It is none.
    pub(super) fn parse(text: &str) -> Result<Self, ObjectError> {
        let wrong = |reason: String| ObjectError::Url { url: text.to_owned(), reason };
        let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| wrong(error.to_string()))?;
        let provider = match scheme {
            ObjectStoreScheme::AmazonS3 => Provider::S3,
            ObjectStoreScheme::GoogleCloudStorage => Provider::Google,
            ObjectStoreScheme::MicrosoftAzure => Provider::Azure,
            ObjectStoreScheme::Local => {
                return Err(wrong("a folder is given with --out, and needs no URL".to_owned()));
            }
            _ => return Err(wrong("claims on runs take conditional writes, which it has not".to_owned())),
        };
        Ok(Self { url: text.trim_end_matches('/').to_owned(), provider, prefix })
    }

    /// A client, with credentials as the environment or the machine has them.
    ///
    /// # Errors
    /// Something in the environment makes no sense.
    pub(super) fn connect(&self, retry: RetryConfig) -> Result<Box<dyn ObjectStore>, ObjectError> {
        // Whoever has chosen one before has chosen for this one, too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = ClientConfigKey::Timeout;
        let client: object_store::Result<Box<dyn ObjectStore>> = match self.provider {
            Provider::S3 => AmazonS3Builder::from_env()
                .with_url(&self.url)
                .with_config(AmazonS3ConfigKey::Client(timeout), TIMEOUT)
                .with_retry(retry)
                .build()
                .map(|client| Box::new(client) as _),
            Provider::Google => GoogleCloudStorageBuilder::from_env()
                .with_url(&self.url)
                .with_config(GoogleConfigKey::Client(timeout), TIMEOUT)
                .with_retry(retry)
                .build()
                .map(|client| Box::new(client) as _),
            Provider::Azure => MicrosoftAzureBuilder::from_env()
                .with_url(&self.url)
                .with_config(AzureConfigKey::Client(timeout), TIMEOUT)
                .with_retry(retry)
                .build()
                .map(|client| Box::new(client) as _),
        };
        client.map_err(|error| self.failed("use", &self.url, &error))
    }

    /// A failure as far as it is known, and what to look at.
    pub(super) fn failed(
        &self,
        doing: &'static str,
        what: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> ObjectError {
        // The crate says a failure's cause in the words of the failure, and the system's own word is further down.
        let mut reason = error.to_string();
        let causes = std::iter::successors(error.source(), |error| error.source());
        if let Some(last) =
            causes.last().map(ToString::to_string).filter(|last| !reason.contains(last.as_str()))
        {
            reason += &format!(" ({last})");
        }
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        let advice = match self.provider {
            Provider::S3 => {
                "Is the bucket there, and may you write to it? Credentials are those of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN, AWS_REGION), \
                 or the machine's role; another server than Amazon's is named by AWS_ENDPOINT_URL, and without TLS by AWS_ALLOW_HTTP=true."
            }
            Provider::Google => {
                "Is the bucket there, and may you write to it? Credentials are those of the file that GOOGLE_APPLICATION_CREDENTIALS names, of `gcloud auth \
                 application-default login`, or the machine's."
            }
            Provider::Azure => {
                "Is the container there, and may you write to it? The account is AZURE_STORAGE_ACCOUNT_NAME, and credentials are those of AZURE_STORAGE_ACCOUNT_KEY, \
                 of AZURE_CLIENT_ID with its secret and tenant, or the machine's."
            }
        };
        ObjectError::Failed { doing, what: what.to_owned(), reason, advice }
    }
}
