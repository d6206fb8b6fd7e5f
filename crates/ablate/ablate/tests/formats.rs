//! Runs in the files of TensorBoard and of Weights & Biases. The event files here are made byte by byte, by a writer
//! that shares nothing with the reader but the format; those in `tests/data` by Python's `tensorboard`
//! (`make_events.py`).

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use ablate::analyse::{EventError, Source, WandbError, read};
use ablate::findings::{Findings, Verdict};
use ablate::report::{self, Environment};
use ablate::results::Results;
use program::program;

/// CRC-32C by its definition: a division of polynomials, bit by bit.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = 0xffff_ffff_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = crc % 2 == 1;
            crc /= 2;
            if is_odd {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    let crc = crc ^ 0xffff_ffff;
    (crc / 32768 + crc % 32768 * 131_072).wrapping_add(0xa282_ead8)
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_crc32c(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_crc32c(data).to_le_bytes());
    bytes
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push((number % 128 + 128) as u8);
        number /= 128;
    }
    bytes.push(number as u8);
    bytes
}

/// A field of a message: bytes, or a message within.
fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number * 8 + 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    [varint(number * 8), varint(value)].concat()
}

fn float(number: u64, value: f32) -> Vec<u8> {
    [varint(number * 8 + 5), value.to_le_bytes().to_vec()].concat()
}

fn event(step: u64, values: &[Vec<u8>]) -> Vec<u8> {
    let wall_time = [varint(8 + 1), 1.7e9_f64.to_le_bytes().to_vec()].concat();
    let values: Vec<u8> = values.iter().flat_map(|value| bytes(1, value)).collect();
    [wall_time, integer(2, step), bytes(5, &values)].concat()
}

fn scalar(tag: &str, value: f32) -> Vec<u8> {
    [bytes(1, tag.as_bytes()), float(2, value)].concat()
}

/// A value whose tensor is of a type, has dimensions, and content in a field.
fn tensor(tag: &str, dtype: u64, dimensions: &[u64], content: Vec<u8>) -> Vec<u8> {
    let shape: Vec<u8> = dimensions.iter().flat_map(|size| bytes(2, &integer(1, *size))).collect();
    let tensor = [integer(1, dtype), bytes(2, &shape), content].concat();
    [bytes(1, tag.as_bytes()), bytes(8, &tensor)].concat()
}

fn version() -> Vec<u8> {
    record(&bytes(3, b"brain.Event:2"))
}

fn write(top: &Path, run: &str, file: &str, content: &[u8]) -> PathBuf {
    let folder = top.join(run);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("events.out.tfevents.{file}"));
    fs::write(&path, content).unwrap();
    path
}

/// Two arms with seven seeds, in which lion's losses are lower by a quarter.
fn logdir(top: &Path) {
    for seed in 0..7 {
        for (arm, less) in [("adam", 0.0), ("lion", 0.25)] {
            let loss = |step: u64| 3.0 - step as f32 / 100.0 + 0.125 * seed as f32 - less;
            let records = [0, 50, 100]
                .map(|step| record(&event(step, &[scalar("val/loss", loss(step)), scalar("lr", 0.5)])));
            write(top, &format!("{arm}/seed{seed}"), "1.host", &[version(), records.concat()].concat());
        }
    }
}

fn by_name(files: Vec<PathBuf>, value: &str, name: &str) -> Source {
    let name = Some(name.parse().unwrap());
    Source { arm: "arm".into(), seed: Some("seed".into()), value: value.into(), name, ..Source::new(files) }
}

fn losses(results: &Results, arm: usize, seed: usize) -> Vec<(usize, f64)> {
    let curve = &results.tasks[0].arms[arm].runs[seed].record.curve;
    curve.iter().map(|point| (point.step, point.validation.loss)).collect()
}

#[test]
fn a_folder_of_event_files_has_a_run_in_every_folder_and_pairs_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    logdir(folder.path());
    let source = by_name(vec![folder.path().into()], "val/loss", "{arm}/seed{seed}");
    let results = read(&source).unwrap();
    assert!(results.tasks[0].is_paired());
    assert_eq!(losses(&results, 0, 3), [(0, 3.375), (50, 2.875), (100, 2.375)]);
    let found = &Findings::of(&results).tasks[0].arms[1];
    assert_eq!((found.verdict, found.difference.unwrap().mean), (Verdict::Better, Some(-0.25)));
    // The files one by one have the names of their folders, from which the arm is gone.
    let files = (0..7).map(|seed| folder.path().join(format!("adam/seed{seed}/events.out.tfevents.1.host")));
    let alone = by_name(files.collect(), "val/loss", "{arm}d{seed}");
    assert!(read(&alone).unwrap_err().to_string().contains("one arm, see"));
}

#[test]
fn tensors_without_dimensions_are_scalars_and_all_else_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let packed = |number, content: &[u8]| bytes(number, content);
    let negative = (-7_i64).cast_unsigned();
    let cases: Vec<(&str, Vec<u8>, Option<f64>)> = vec![
        ("float content", tensor("x", 1, &[], packed(4, &1.5_f32.to_le_bytes())), Some(1.5)),
        ("float, one by one", tensor("x", 1, &[], float(5, 0.1)), Some(f64::from(0.1_f32))),
        ("float, packed", tensor("x", 1, &[], packed(5, &2.5_f32.to_le_bytes())), Some(2.5)),
        ("double content", tensor("x", 2, &[], packed(4, &0.1_f64.to_le_bytes())), Some(0.1)),
        ("double, packed", tensor("x", 2, &[], packed(6, &0.3_f64.to_le_bytes())), Some(0.3)),
        ("int32, packed", tensor("x", 3, &[], packed(7, &varint(300))), Some(300.0)),
        ("int32 content", tensor("x", 3, &[], packed(4, &(-2_i32).to_le_bytes())), Some(-2.0)),
        ("int64, one by one", tensor("x", 9, &[], integer(10, negative)), Some(-7.0)),
        ("int64 content", tensor("x", 9, &[], packed(4, &9_i64.to_le_bytes())), Some(9.0)),
        ("a vector", tensor("x", 1, &[2], packed(4, &[0; 8])), None),
        ("a text", tensor("x", 7, &[], packed(8, b"words")), None),
        ("an image", [bytes(1, b"x"), bytes(4, b"pixels")].concat(), None),
    ];
    for (index, (what, value, expected)) in cases.into_iter().enumerate() {
        let top = folder.path().join(index.to_string());
        for arm in ["a", "b"] {
            let all = [version(), record(&event(5, &[value.clone(), scalar("other", 1.0)]))].concat();
            write(&top, arm, "1", &all);
        }
        let source =
            |value: &str| Source { arm: "run".into(), value: value.into(), ..Source::new(vec![top.clone()]) };
        match expected {
            Some(expected) => {
                assert_eq!(losses(&read(&source("x")).unwrap(), 0, 0), [(5, expected)], "{what}")
            }
            None => {
                let error = format!("{:#}", read(&source("x")).unwrap_err());
                assert!(error.contains("no column \"x\"") && error.contains("other"), "{what}: {error}");
            }
        }
    }
}

#[test]
fn a_record_that_is_cut_off_anywhere_leaves_those_before_it_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    logdir(folder.path());
    let path = folder.path().join("lion/seed2/events.out.tfevents.1.host");
    let whole = fs::read(&path).unwrap();
    let last = record(&event(100, &[scalar("val/loss", 0.0), scalar("lr", 0.5)])).len();
    let source = by_name(vec![folder.path().into()], "val/loss", "{arm}/seed{seed}");
    for missing in 1..last {
        fs::write(&path, &whole[..whole.len() - missing]).unwrap();
        let results = read(&source).unwrap();
        assert_eq!(losses(&results, 1, 2).len(), 2, "{missing} bytes");
        let notes = &results.tasks[0].read.as_ref().unwrap().notes;
        assert!(notes.len() == 1 && notes[0].contains("its last record, the 4th"), "{notes:?}");
        let findings = Findings::of(&results);
        assert!(findings.caveats.contains(&notes[0]), "{:?}", findings.caveats);
    }
    fs::write(&path, &whole[..whole.len() - last]).unwrap();
    assert!(read(&source).unwrap().tasks[0].read.as_ref().unwrap().notes.is_empty());
}

#[test]
fn a_byte_that_is_another_one_is_an_error_with_file_and_record() {
    let folder = tempfile::tempdir().unwrap();
    logdir(folder.path());
    let path = folder.path().join("adam/seed0/events.out.tfevents.1.host");
    let whole = fs::read(&path).unwrap();
    let source = by_name(vec![folder.path().into()], "val/loss", "{arm}/seed{seed}");
    let first = version().len();
    for position in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let error = read(&source).unwrap_err();
        match error.downcast_ref() {
            Some(EventError::Checksum { file, record, position: found, part }) => {
                assert!(*file == path && *found <= position);
                if position < first {
                    assert_eq!((*record, *found, *part == "length"), (1, 0, position < 12));
                }
            }
            _ => panic!("byte {position}: {error:#}"),
        }
    }
    let text = read(&source).unwrap_err().to_string();
    assert!(text.contains("seed0") && text.contains("record 4") && text.contains("undamaged copy"), "{text}");
    // Whole records of something else.
    for (data, expected) in [
        (&b"\x0b"[..], "a kind that there is not"),
        (b"\x2a\x7f", "it ends within a field"),
        (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 64 bits"),
        (b"\x2a\x05\x0a\x03\x0a\x01\xff", "no text"),
    ] {
        fs::write(&path, [version(), record(data)].concat()).unwrap();
        let error = read(&source).unwrap_err();
        let Some(EventError::Message { record: 2, what, .. }) = error.downcast_ref() else {
            panic!("{data:?}: {error:#}")
        };
        assert!(what.contains(expected), "{what}");
    }
}

#[test]
fn a_run_that_was_continued_has_several_files_of_which_the_later_counts() {
    let folder = tempfile::tempdir().unwrap();
    for arm in ["a", "b"] {
        let of = |steps: &[u64], value: f32| {
            steps.iter().flat_map(|step| record(&event(*step, &[scalar("loss", value)]))).collect::<Vec<u8>>()
        };
        write(folder.path(), arm, "200.host", &[version(), of(&[20, 30], 1.0)].concat());
        write(folder.path(), arm, "100.host", &[version(), of(&[10, 20], 2.0)].concat());
    }
    let source =
        Source { arm: "run".into(), value: "loss".into(), ..Source::new(vec![folder.path().into()]) };
    assert_eq!(losses(&read(&source).unwrap(), 0, 0), [(10, 2.0), (20, 1.0), (30, 1.0)]);
}

#[test]
fn names_that_do_not_fit_and_runs_that_are_there_twice_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    logdir(folder.path());
    let error = |name: &str| {
        let source = by_name(vec![folder.path().into()], "val/loss", name);
        format!("{:#}", read(&source).unwrap_err())
    };
    assert!(
        error("{arm}-{seed}")
            .contains("the run \"adam/seed0\" is not called as --name says, \"{arm}-{seed}\"")
    );
    write(
        folder.path(),
        "adam/reseed3",
        "1",
        &[version(), record(&event(1, &[scalar("val/loss", 1.0)]))].concat(),
    );
    let twice = error("{arm}/{what}eed{seed}");
    assert!(
        twice.contains("arm adam") && twice.contains("two runs of seed 3: adam/reseed3 and adam/seed3"),
        "{twice}"
    );
    let empty = tempfile::tempdir().unwrap();
    let none = read(&by_name(vec![empty.path().into()], "loss", "{arm}")).unwrap_err();
    assert!(matches!(none.downcast_ref(), Some(EventError::NoFiles(_))), "{none:#}");
}

/// Python's writer, its tensors as TensorFlow and JAX write them, and beside them what is no scalar.
#[test]
fn files_of_the_real_writer_are_read_and_reported() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tensorboard");
    let source = by_name(vec![data.into()], "loss/val", "{arm}/seed{seed}");
    let results = read(&source).unwrap();
    for seed in 0..3 {
        for (arm, more) in [(0, 0.0), (1, 0.125)] {
            for (step, value) in losses(&results, arm, seed) {
                let expected = 2.0 / (1.0 + step as f64 / 25.0) + 0.01 * seed as f64 + more;
                assert!((value - expected).abs() < 1e-6, "{arm} {seed} {step}: {value}");
            }
            assert_eq!(losses(&results, arm, seed).len(), 3);
        }
    }
    // The one that was written as float64.
    assert_eq!(losses(&results, 1, 1)[2], (100, 2.0 / 5.0 + 0.01 + 0.125));
    let folder = tempfile::tempdir().unwrap();
    let findings = Findings::of(&results);
    report::write(folder.path(), &results, &findings, &Environment::default()).unwrap();
    let markdown = fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap();
    insta::assert_snapshot!("tensorboard", markdown.replace(data, "LOGDIR"));
}

/// As W&B writes the export of a chart: every cell in quotation marks, and what a run has no number of empty.
fn export(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wandb_export_2026-11-28.csv");
    let quoted = |line: &str| line.split(',').map(|cell| format!("\"{cell}\"")).collect::<Vec<_>>().join(",");
    fs::write(&path, text.lines().map(|line| quoted(line) + "\n").collect::<String>()).unwrap();
    (folder, path)
}

#[test]
fn an_export_of_wandb_has_a_run_in_every_three_columns() {
    let runs: Vec<(String, f64)> = (0..6)
        .flat_map(|seed| {
            let loss = 2.0 + 0.25 * f64::from(seed);
            [(format!("adam - wd 0.1-{seed}"), loss), (format!("muon-{seed}"), loss - 0.5)]
        })
        .collect();
    let heads = runs
        .iter()
        .map(|(name, _)| format!(",{name} - val/loss,{name} - val/loss__MIN,{name} - val/loss__MAX"));
    let mut text = format!("Step{}\n", heads.collect::<String>());
    for step in [100, 200] {
        let cells = runs.iter().map(|(name, loss)| {
            // A run that logged at steps of its own.
            let is_there = step == 200 || !name.starts_with("muon");
            let cell = if is_there { (loss * 200.0 / f64::from(step)).to_string() } else { String::new() };
            format!(",{cell},{cell},{cell}")
        });
        text += &format!("{step}{}\n", cells.collect::<String>());
    }
    let (_folder, path) = export(&text);
    let results = read(&by_name(vec![path], "val/loss", "{arm}-{seed}")).unwrap();
    let names: Vec<&str> = results.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["adam - wd 0.1", "muon"]);
    assert_eq!(losses(&results, 0, 1), [(100, 4.5), (200, 2.25)]);
    assert_eq!(losses(&results, 1, 1), [(200, 1.75)]);
    let found = &Findings::of(&results).tasks[0].arms[1];
    assert_eq!((found.verdict, found.difference.unwrap().mean), (Verdict::Better, Some(-0.5)));
}

#[test]
fn an_export_with_two_runs_of_a_name_is_refused() {
    let of = |name: &str| format!(",{name} - loss,{name} - loss__MIN,{name} - loss__MAX");
    let (_folder, path) = export(&format!("Step{}{}\n1,1,1,1,2,2,2\n", of("a"), of("a")));
    let error = read(&by_name(vec![path], "loss", "{arm}")).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&WandbError::SameName("a - loss".into())), "{error:#}");
    assert!(format!("{error:#}").contains("wandb_export"), "{error:#}");
    let (_folder, path) = export("Step,loss,loss__MIN,loss__MAX\n1,1,1,1\n");
    let error = read(&by_name(vec![path], "loss", "{arm}")).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&WandbError::NoName("loss".into())), "{error:#}");
}

#[test]
fn the_program_takes_arm_and_seed_from_the_names() {
    let folder = tempfile::tempdir().unwrap();
    logdir(&folder.path().join("logs"));
    let analyse = |arguments: &[&str]| {
        let out = folder.path().join("report");
        let output = program()
            .arg("analyse")
            .arg(folder.path().join("logs"))
            .args(arguments)
            .arg("--out")
            .arg(out)
            .output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, said) = analyse(&["--name", "{arm}/seed{seed}", "--value", "val/loss"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("lion: better") && said.contains("paired by seed"), "{said}");
    let (code, said) = analyse(&["--value", "val/loss"]);
    assert!(code == Some(2) && said.contains("--name \"{arm}/seed{seed}\""), "{said}");
    let (code, said) = analyse(&["--value", "val/loss", "--name", "{arm"]);
    assert!(code == Some(2) && said.contains("without }"), "{said}");
}
