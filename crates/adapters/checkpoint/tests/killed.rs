//! A process that is killed while it saves leaves the file before, or the one that it was writing, whole.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gradient_transform::{Optimizer, Parameter};
use prodigy_plus::ProdigyPlus;

const FILE: &str = "CHECKPOINT_TO_SAVE_UNTIL_KILLED";
const SIZE: usize = 300_000;

fn optimizer() -> Optimizer {
    ProdigyPlus::builder().build([("w", &[SIZE][..])]).unwrap()
}

/// Two states in turn.
fn states() -> [Optimizer; 2] {
    let mut w = vec![1.0_f32; SIZE];
    [1, 2].map(|steps| {
        let mut optimizer = optimizer();
        for _ in 0..steps {
            let gradient = w.clone();
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
        }
        optimizer
    })
}

/// Not a test of its own: what the process does that is killed.
#[test]
fn saves_until_killed() {
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return };
    let states = states();
    for state in states.iter().cycle() {
        checkpoint::save(&path, state).unwrap();
    }
}

fn saver(path: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "saves_until_killed"])
        .env(FILE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_save_leaves_a_whole_file() {
    let expected = states().map(|state| state.snapshot());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for round in 0..24 {
        let mut child = saver(&path);
        while !path.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the process that saves ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        // At another place of the save in every round.
        std::thread::sleep(Duration::from_micros(40_000 + 1_700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut resumed = optimizer();
        checkpoint::load(&path, &mut resumed).unwrap();
        assert!(expected.contains(&resumed.snapshot()), "round {round}");
    }
    // What the killed saves left is gone with the next one.
    checkpoint::save(&path, &optimizer()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
