//! Failures of object stores.

/// Failure of an object store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code))]
pub(crate) enum ObjectError {
    /// This program cannot use any.
    #[cfg(not(feature = "object-store"))]
    #[error(
        "{0} is an object store, and this program was built without them: `cargo run --release -p ablate --features object-store -- ...` has them, and so has what \
         `cargo install` with `--features object-store` installs"
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
        "{0} holds something else than a study (there is no study.toml); choose another prefix with --store"
    )]
    NotAStudy(String),
    /// Nothing was stored there.
    #[error("{0} holds no study: there is no study.toml")]
    NoStudy(String),
    /// Claims on runs would not hold there.
    #[error(
        "{url} does not refuse {what}, so that two processes could not keep out of each other's way; it takes a server with conditional writes (If-None-Match, \
         If-Match), as S3, Google Cloud Storage and Azure have them"
    )]
    Unconditional {
        /// The store.
        url: String,
        /// The write that it did not refuse.
        what: &'static str,
    },
    /// A request that failed, also when it was tried again.
    #[error(
        "cannot {doing} {what}: {reason}. {advice} What is stored has stayed, and the same command goes on from there"
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
