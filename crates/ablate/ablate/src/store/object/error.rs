//! Failures of object stores.

/// Failure of an object store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code))]
pub(crate) enum ObjectError {
    /// This program cannot use any.
    #[cfg(not(feature = "object-store"))]
    #[error(
        "{0} is an object store, for which this program was not built: add `--features object-store` to `cargo install` or `cargo run`"
    )]
    NotBuilt(String),
    /// It is no address that runs can be stored at.
    #[error(
        "{url} is no object store for runs: {reason}; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    Url {
        /// As it was given.
        url: String,
        /// Its mistake.
        reason: String,
    },
    /// Other things are stored there.
    #[error(
        "{0} holds something other than a study (there is no study.toml); choose another prefix with --store"
    )]
    NotAStudy(String),
    /// Nothing was stored there.
    #[error("{0} holds no study: there is no study.toml")]
    NoStudy(String),
    /// Claims on runs would not hold there.
    #[error(
        "{url} does not reject {what}, so two processes could claim the same run; use a server with conditional writes (If-None-Match, If-Match), such \
         as S3, Google Cloud Storage or Azure"
    )]
    Unconditional {
        /// The store.
        url: String,
        /// The write that it did not refuse.
        what: &'static str,
    },
    /// A request that failed, also when it was tried again.
    #[error(
        "cannot {doing} {what}: {reason}. {advice} Stored runs are kept, and the same command continues from there"
    )]
    Failed {
        /// The request, as a verb.
        doing: &'static str,
        /// The object.
        what: String,
        /// The client's own words.
        reason: String,
        /// The most likely causes.
        advice: &'static str,
    },
}
