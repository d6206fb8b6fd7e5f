//! The digest of the sources that determine a run, so that stored runs of other code don't count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The one dependency in the workspace whose code doesn't run while something is trained: statistics that are mended need no new runs.
const NOT_TRAINING: &str = "ablate-statistics";

/// Sources of this crate that run. A report that is written differently needs no new runs.
const OWN: [&str; 4] = ["src/optimizer", "src/run.rs", "src/record.rs", "src/transforms"];

fn main() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    let names = training(&crates);
    for name in &names {
        collect(&crates.join(name).join("src"), &mut files);
    }
    collect(&crates.join("ablate-tasks/data"), &mut files);
    for name in OWN {
        collect(&crates.join("ablate").join(name), &mut files);
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        if let Ok(content) = fs::read(&file) {
            digest.update((content.len() as u64).to_le_bytes());
            digest.update(content);
        }
    }
    let lock = crates.join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    for package in used(&names, &fs::read_to_string(lock).unwrap_or_default()) {
        digest.update(package);
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=ABLATE_CODE={digest}");
    println!("cargo::rustc-env=ABLATE_TRAINING={}", names.into_iter().collect::<Vec<_>>().join(" "));
}

/// Crates of the workspace whose code runs while something is trained: what this one depends on, as the manifests have it.
fn training(crates: &Path) -> BTreeSet<String> {
    let mut waiting = vec!["ablate".to_owned()];
    let mut names = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let manifest = crates.join(&name).join("Cargo.toml");
        println!("cargo::rerun-if-changed={}", manifest.display());
        let text = fs::read_to_string(manifest).unwrap_or_default();
        let manifest: toml::Table = text.parse().unwrap_or_default();
        let dependencies = manifest.get("dependencies").and_then(|table| table.as_table());
        for dependency in dependencies.into_iter().flat_map(|table| table.keys()) {
            let is_here = crates.join(dependency).join("Cargo.toml").is_file();
            if is_here && dependency != NOT_TRAINING && names.insert(dependency.clone()) {
                waiting.push(dependency.clone());
            }
        }
    }
    names
}

/// The files under a path, which is itself watched for new ones.
fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_file() {
        into.push(path.to_owned());
        return;
    }
    println!("cargo::rerun-if-changed={}", path.display());
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        collect(&entry.path(), into);
    }
}

/// Name and version of crates and of all that they depend on, from a lock file: what else the workspace uses may change.
fn used(crates: &BTreeSet<String>, lock: &str) -> BTreeSet<String> {
    let lock: toml::Table = lock.parse().unwrap_or_default();
    let packages =
        lock.get("package").and_then(|packages| packages.as_array()).map_or(&[][..], Vec::as_slice);
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let mut waiting: Vec<String> = crates.iter().cloned().collect();
    let mut used = BTreeSet::new();
    while let Some(wanted) = waiting.pop() {
        // A dependency is a name, and a version only where there are several.
        let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
        for package in packages {
            let (Some(found), Some(its)) = (text(package, "name"), text(package, "version")) else {
                continue;
            };
            if found == name
                && (version.is_empty() || version == its)
                && used.insert(format!("{found} {its}"))
            {
                let dependencies = package.get("dependencies").and_then(|list| list.as_array());
                waiting
                    .extend(dependencies.into_iter().flatten().filter_map(|d| d.as_str().map(str::to_owned)));
            }
        }
    }
    used
}
