//! Effects of a save on the file, on the other files of its folder, and on memory.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use checkpoint::{Error, load, save};
use gradient_transform::{Optimizer, Parameter};
use prodigy_plus::ProdigyPlus;

fn trained(len: usize) -> Optimizer {
    let mut optimizer = ProdigyPlus::builder().build([("w", &[len][..])]).unwrap();
    let (mut w, gradient) = (vec![1.0_f32; len], vec![0.5_f32; len]);
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))]).unwrap();
    optimizer
}

#[track_caller]
fn holds(path: &Path, optimizer: &Optimizer) {
    let mut read = ProdigyPlus::builder().build([("w", &[7][..])]).unwrap();
    load(path, &mut read).unwrap();
    assert_eq!(read.snapshot(), optimizer.snapshot());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A copy of the state, or of its largest array, would be 40 MB.
#[test]
fn a_save_takes_little_memory_whatever_the_size() {
    let optimizer = trained(10_000_000);
    assert!(optimizer.state_bytes() > 80_000_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let info = allocation_counter::measure(|| save(&path, &optimizer).unwrap());
    assert!(info.bytes_max < 1_000_000, "{} bytes", info.bytes_max);
    assert!(fs::metadata(&path).unwrap().len() > 80_000_000);
}

#[test]
fn what_is_saved_is_what_bytes_are_made_of() {
    let (optimizer, folder) = (trained(7), tempfile::tempdir().unwrap());
    let path = folder.path().join("state.safetensors");
    save(&path, &optimizer).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), checkpoint::to_bytes(&optimizer).unwrap().len());
    holds(&path, &optimizer);
    assert_eq!(names(folder.path()), ["state.safetensors"]);
}

#[test]
fn a_folder_in_the_place_of_the_file_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    fs::create_dir(&path).unwrap();
    let error = save(&path, &trained(7)).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == ErrorKind::IsADirectory),
        "{error:?}"
    );
    assert_eq!((names(folder.path()).len(), names(&path).len()), (1, 0));
    for nowhere in [Path::new(""), Path::new("/"), Path::new("..")] {
        assert!(matches!(save(nowhere, &trained(7)), Err(Error::Io { .. })), "{nowhere:?}");
    }
}

#[test]
fn leftovers_of_killed_saves_are_removed_and_files_of_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let left = folder.path().join(".state.safetensors.aB3dE6.part");
    fs::write(&left, "half a check").unwrap();
    // Of another save that is at work; of another file; and of somebody else.
    let at_work = folder.path().join(".state.safetensors.QWERT1.part");
    let written = File::create(&at_work).unwrap();
    written.lock().unwrap();
    let others =
        [".state.safetensors.part", ".state.safetensors.aB3dE.part", ".state.safetensors2.aB3dE6.part"];
    others.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
    save(&path, &trained(7)).unwrap();
    assert!(!left.exists());
    assert!(at_work.exists());
    assert!(others.iter().all(|name| folder.path().join(name).exists()));
    drop(written);
    save(&path, &trained(7)).unwrap();
    assert!(!at_work.exists());
}

#[cfg(unix)]
#[test]
fn behind_a_symbolic_link_the_file_that_it_points_to_is_replaced() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name);
    fs::create_dir(in_folder("disk")).unwrap();
    symlink("disk/first", in_folder("link")).unwrap();
    symlink(in_folder("link"), in_folder("link to the link")).unwrap();
    let optimizer = trained(7);
    // Also one that points to nothing yet.
    for _ in 0..2 {
        save(in_folder("link to the link"), &optimizer).unwrap();
        assert!(in_folder("link").is_symlink() && in_folder("link to the link").is_symlink());
        holds(&in_folder("disk/first"), &optimizer);
        assert_eq!(names(&in_folder("disk")), ["first"]);
    }
    symlink("a", in_folder("b")).unwrap();
    symlink("b", in_folder("a")).unwrap();
    assert!(matches!(save(in_folder("a"), &optimizer), Err(Error::Io { .. })));
}

#[cfg(unix)]
#[test]
fn a_replaced_file_keeps_its_permissions_and_a_device_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let usual = || {
        let file = folder.path().join("usual");
        fs::write(&file, "").unwrap();
        fs::metadata(&file).unwrap().permissions().mode() & 0o777
    };
    save(&path, &trained(7)).unwrap();
    assert_eq!(mode(), usual());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    save(&path, &trained(7)).unwrap();
    assert_eq!(mode(), 0o640);
    assert!(matches!(save("/dev/null", &trained(7)), Err(Error::Io { .. })));
}
