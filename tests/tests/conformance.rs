//! The engine follows the reference on the shipped cases.

use std::path::Path;

use conformance::case::Case;
use conformance::product;
use conformance::replay::replay;

#[test]
fn the_engine_follows_the_reference_on_every_shipped_case() {
    follows("golden/cases", "1.9.2", 20);
}

#[test]
fn the_engine_follows_the_second_line_on_every_shipped_case() {
    follows("golden/cases_v2", "2.0.1", 12);
}

fn follows(folder: &str, reference: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= least, "only {} cases in {}", files.len(), folder.display());
    for file in files {
        let case = Case::read(&file).unwrap();
        assert_eq!(case.description.reference.as_deref(), Some(reference), "{}", file.display());
        let verdict = replay(&case, product::subject(&case).unwrap().as_mut()).unwrap();
        assert!(verdict.passed, "{}: {verdict:?}", case.description.name);
    }
}

#[test]
fn an_engine_with_another_option_does_not_follow_the_reference() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases/defaults.safetensors");
    let mut case = Case::read(&file).unwrap();
    case.description.options.insert("d_coef".into(), 1.01.into());
    let verdict = replay(&case, product::subject(&case).unwrap().as_mut()).unwrap();
    assert!(!verdict.passed, "{verdict:?}");
}
