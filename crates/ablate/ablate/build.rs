//! The digest of the sources that determine a run, so that stored runs of other code don't count.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The one dependency in the workspace whose code doesn't run while something is trained: statistics that are mended
/// need no new runs.
const NOT_TRAINING: &str = "ablate-statistics";

/// Sources of this crate that run. A report that is written differently needs no new runs.
const OWN: [&str; 5] = ["src/links.rs", "src/optimizer", "src/prefix.rs", "src/run.rs", "src/record.rs"];

/// Files of another crate's folder that are no code. All else is, data that is compiled in included.
const NO_CODE: [&str; 4] = ["Cargo.toml", "README.md", "target", "tests"];

fn main() {
    if let Err(error) = address() {
        println!("cargo::error=the sources that determine a run cannot be told: {error}");
    }
}

fn address() -> Result<(), Box<dyn Error>> {
    let own = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = Workspace::read(&own)?;
    let name = env::var("CARGO_PKG_NAME")?;
    let training = workspace.training(&name)?;
    let mut files = Vec::new();
    for (name, folder) in &training {
        let before = files.len();
        println!("cargo::rerun-if-changed={}", folder.display());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !NO_CODE.iter().any(|name| path.ends_with(name)) {
                collect(&path, &mut files)?;
            }
        }
        if files.len() == before {
            return Err(format!("{name} has no sources in {}", folder.display()).into());
        }
    }
    for path in OWN {
        collect(&own.join(path), &mut files)?;
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let content = fs::read(&file)?;
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    let lock = workspace.root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    // A package from a registry is in no workspace: its lock file says it all.
    let crates = if training.is_empty() { vec![name] } else { training.keys().cloned().collect() };
    for package in used(crates, &text)? {
        digest.update(package);
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=ABLATE_CODE={digest}");
    println!("cargo::rustc-env=ABLATE_LOCK={}", lock.display());
    let names: Vec<&str> = training.keys().map(String::as_str).collect();
    println!("cargo::rustc-env=ABLATE_TRAINING={}", names.join(" "));
    Ok(())
}

/// The workspace, as Cargo has it.
struct Workspace {
    root: PathBuf,
    packages: Vec<Value>,
}

impl Workspace {
    fn read(of: &Path) -> Result<Self, Box<dyn Error>> {
        // Without dependencies nothing is resolved, and nothing has to be there but the manifests.
        let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
        let output = Command::new(env::var("CARGO")?).args(arguments).current_dir(of).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo {} failed: {said}", arguments.join(" ")).into());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let root =
            metadata["workspace_root"].as_str().ok_or("cargo metadata names no workspace_root")?.into();
        let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?.clone();
        Ok(Self { root, packages })
    }

    /// Crates of the workspace whose code runs while something is trained, and their folders: what `name` depends on.
    fn training(&self, name: &str) -> Result<BTreeMap<String, PathBuf>, Box<dyn Error>> {
        let mut waiting = vec![name.to_owned()];
        let mut found = BTreeMap::new();
        while let Some(name) = waiting.pop() {
            let package = self
                .packages
                .iter()
                .find(|package| package["name"] == *name)
                .ok_or_else(|| format!("{name} is not in the workspace in {}", self.root.display()))?;
            let manifest = package["manifest_path"].as_str().ok_or("a package without manifest_path")?;
            println!("cargo::rerun-if-changed={manifest}");
            for dependency in package["dependencies"].as_array().into_iter().flatten() {
                let name = dependency["name"].as_str().ok_or("a dependency without a name")?;
                // Of other kinds are those of tests, and what only builds.
                let (Some(path), true) = (dependency["path"].as_str(), dependency["kind"].is_null()) else {
                    continue;
                };
                if name != NOT_TRAINING && found.insert(name.to_owned(), path.into()).is_none() {
                    waiting.push(name.to_owned());
                }
            }
        }
        Ok(found)
    }
}

/// The files under a path, which is itself watched for new ones.
fn collect(path: &Path, into: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    println!("cargo::rerun-if-changed={}", path.display());
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), into)?;
    }
    Ok(())
}

/// Name and version of crates and of all that they depend on, from a lock file: what else the workspace uses may
/// change.
fn used(mut waiting: Vec<String>, lock: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let lock: toml::Table = lock.parse()?;
    let packages = lock.get("package").and_then(|packages| packages.as_array());
    let packages = packages.ok_or("the lock file lists no packages")?;
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let mut used = BTreeSet::new();
    while let Some(wanted) = waiting.pop() {
        // A dependency is a name, and a version only where there are several.
        let (name, version) = wanted.split_once(' ').unwrap_or((&wanted, ""));
        let mut is_locked = false;
        for package in packages {
            let (Some(found), Some(its)) = (text(package, "name"), text(package, "version")) else {
                continue;
            };
            if found == name && (version.is_empty() || version.split(' ').next() == Some(&its)) {
                is_locked = true;
                if used.insert(format!("{found} {its}")) {
                    let dependencies = package.get("dependencies").and_then(|list| list.as_array());
                    waiting.extend(
                        dependencies.into_iter().flatten().filter_map(|d| d.as_str().map(str::to_owned)),
                    );
                }
            }
        }
        if !is_locked {
            return Err(format!("{wanted} is not in the lock file").into());
        }
    }
    Ok(used)
}
