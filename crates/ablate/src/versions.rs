//! The versions of what a result was computed with.

use serde::Serialize;

/// The workspace's lock file, as it was when this program was compiled.
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));

/// What decides a result beside the study itself.
const PACKAGES: [&str; 7] =
    ["ablate", "prodigy-plus", "gradient-transform", "candle-core", "candle-nn", "rand_chacha", "statrs"];

/// A program part and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The package's name.
    pub name: &'static str,
    /// The version that was compiled in.
    pub version: &'static str,
}

/// The versions of the packages that decide a result.
pub fn versions() -> Vec<Version> {
    PACKAGES.into_iter().filter_map(|name| Some(Version { name, version: locked(name)? })).collect()
}

/// The operating system and architecture.
pub fn platform() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}

fn locked(name: &str) -> Option<&'static str> {
    let quoted = format!("\"{name}\"");
    let mut lines = LOCK.lines();
    lines.find(|line| line.strip_prefix("name = ") == Some(quoted.as_str()))?;
    lines.next()?.strip_prefix("version = ").map(|version| version.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_a_version() {
        let versions = versions();
        assert_eq!(versions.len(), PACKAGES.len());
        assert!(versions.iter().all(|version| version.version.starts_with(|c: char| c.is_ascii_digit())));
    }
}
