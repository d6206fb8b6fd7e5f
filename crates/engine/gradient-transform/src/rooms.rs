//! Test of the dependencies between the folders of this crate.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up: each may use only itself and those before it.
const ROOMS: [&str; 8] = ["layout", "memory", "error", "link", "author", "engine", "optimizer", "device"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_folder_uses_itself_and_those_below_it_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut uses = 0;
    for file in files {
        let inside = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let Some(own) = ROOMS.iter().position(|room| inside.split(['/', '.']).next() == Some(room)) else {
            assert!(["lib.rs", "prelude.rs", "rooms.rs"].contains(&&*inside), "{inside} is in no room");
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // The paths in a macro belong to its callers.
            for path in line.replace("$crate::", "").split("crate::").skip(1) {
                let room = path.split(|c: char| !c.is_ascii_lowercase()).next().unwrap();
                let Some(used) = ROOMS.iter().position(|name| *name == room) else {
                    panic!("{inside} uses `crate::{room}`, which is in no room: {line}")
                };
                assert!(used <= own, "{inside} is below `{room}`: {line}");
                uses += 1;
            }
        }
    }
    assert!(uses > 100, "{uses}");
}
