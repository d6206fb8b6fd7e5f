//! The versions of what a result was computed with.

/// The workspace's lock file, as it was when this program was compiled.
const LOCK: &str = include_str!(env!("ABLATE_LOCK"));

/// SHA-256 of the sources that determine a run: transforms, engine, tasks, training, and the versions of what they use.
pub(crate) const CODE: &str = env!("ABLATE_CODE");

/// Packages that decide what is found in runs: draws and distributions of the statistics.
const FINDING: [&str; 3] = ["ablate", "rand_chacha", "statrs"];
/// Packages that decide a run of a task that is trained here.
const TRAINING: [&str; 4] = ["prodigy-plus", "gradient-transform", "candle-core", "candle-nn"];

/// Name and version of the packages that decide a result, of which some runs were trained here or none.
pub(crate) fn versions(is_trained_here: bool) -> Vec<(String, String)> {
    let training = TRAINING.into_iter().filter(|_| is_trained_here);
    let names = FINDING.into_iter().chain(training);
    names.filter_map(|name| Some((name.to_owned(), locked(name)?.to_owned()))).collect()
}

/// The operating system and architecture.
pub(crate) fn platform() -> String {
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
    fn runs_are_addressed_by_the_sources_of_every_crate_that_trains() {
        let training: Vec<&str> = env!("ABLATE_TRAINING").split(' ').collect();
        let expected =
            ["ablate-tasks", "elementary", "gradient-transform", "gradient-transform-macros", "speed"];
        for name in expected {
            assert!(training.contains(&name), "{name} is not in {training:?}");
        }
        assert!(!training.contains(&"ablate-statistics") && !training.contains(&"ablate"));
    }

    #[test]
    fn every_package_has_a_version() {
        let versions = versions(true);
        assert_eq!(versions.len(), FINDING.len() + TRAINING.len());
        assert!(versions.iter().all(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit())));
    }
}
