//! A malformed case file is an error that says what is wrong, never a panic.

use std::collections::HashMap;
use std::path::Path;

use conformance::case::{Case, CaseError};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::{Value, json};

/// A shipped case, taken apart so that a test can spoil it.
struct Parts {
    description: Value,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

fn shipped() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases/evaluation_between.safetensors");
    std::fs::read(path).unwrap()
}

impl Parts {
    fn of_a_shipped_case() -> Parts {
        let bytes = shipped();
        let (_, head) = SafeTensors::read_metadata(&bytes).unwrap();
        let description = serde_json::from_str(&head.metadata().as_ref().unwrap()["case"]).unwrap();
        let tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()))
            .collect();
        Parts { description, tensors }
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Dtype, Vec<usize>, Vec<u8>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    fn parse(&self) -> Result<Case, CaseError> {
        self.parse_with(Some(&self.description.to_string()))
    }

    fn parse_with(&self, json: Option<&str>) -> Result<Case, CaseError> {
        let views = self.tensors.iter().map(|(name, dtype, shape, data)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let head = json.map(|json| HashMap::from([("case".to_owned(), json.to_owned())]));
        Case::parse(&serialize(views, head).unwrap())
    }
}

#[test]
fn a_case_taken_apart_and_put_together_is_read() {
    let case = Parts::of_a_shipped_case().parse().unwrap();
    assert_eq!(case.description.name, "evaluation_between");
    assert_eq!(case.steps.len(), case.description.steps);
    assert!(case.steps[3].saved.as_ref().unwrap().back.is_some());
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let bytes = shipped();
    for end in (0..bytes.len()).step_by(997).chain([1, 7, 8, 9, bytes.len() - 1]) {
        assert!(matches!(Case::parse(&bytes[..end]), Err(CaseError::Format(_))), "cut at {end}");
    }
}

#[test]
fn a_file_of_noise_is_an_error() {
    let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(matches!(Case::parse(&noise), Err(CaseError::Format(_))));
}

#[test]
fn a_missing_tensor_is_named() {
    for name in ["init/1", "grad/7/0", "y/4/3", "x/16/2", "back/8/0", "d/5"] {
        let mut parts = Parts::of_a_shipped_case();
        parts.tensors.retain(|tensor| tensor.0 != name);
        match parts.parse() {
            Err(CaseError::MissingTensor(missing)) => assert_eq!(missing, name),
            other => panic!("{name}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_gradient_that_should_be_missing_is_named() {
    let mut parts = Parts::of_a_shipped_case();
    parts.description["missing"] = json!({ "3": [1] });
    assert!(matches!(parts.parse(), Err(CaseError::UnexpectedTensor(name)) if name == "grad/3/1"));
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let mut parts = Parts::of_a_shipped_case();
    let tensor = parts.tensor("y/8/0");
    assert_eq!(tensor.2, [34, 9]);
    tensor.2 = vec![9, 34];
    match parts.parse() {
        Err(CaseError::Shape { name, found, expected }) => {
            assert_eq!((name.as_str(), found, expected), ("y/8/0", vec![9, 34], vec![34, 9]));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_tensor_of_integers_is_named_with_its_type() {
    let mut parts = Parts::of_a_shipped_case();
    parts.tensor("init/2").1 = Dtype::I32;
    assert!(matches!(parts.parse(), Err(CaseError::Type { name, found: Dtype::I32 }) if name == "init/2"));
}

#[test]
fn bad_json_and_no_json_are_errors() {
    let parts = Parts::of_a_shipped_case();
    for json in ["", "{", "[]", "{\"name\": 3}", "null"] {
        assert!(matches!(parts.parse_with(Some(json)), Err(CaseError::Json(_))), "{json}");
    }
    assert!(matches!(parts.parse_with(None), Err(CaseError::NoCase)));
}

#[test]
fn a_description_that_contradicts_itself_is_an_error() {
    for (field, value) in [
        ("steps", json!(0)),
        ("saved", json!([])),
        ("saved", json!([0])),
        ("saved", json!([4, 99])),
        ("eval_at", json!([5])),
        ("lr", json!([1.0, 0.5])),
        ("groups", json!([{ "params": [0, 1, 2] }])),
        ("groups", json!([{ "params": [0, 1, 2, 3, 4] }])),
        ("groups", json!([{ "params": [0, 1, 2, 3] }, { "params": [3] }])),
    ] {
        let mut parts = Parts::of_a_shipped_case();
        parts.description[field] = value.clone();
        let error = parts.parse().err();
        assert!(matches!(error, Some(CaseError::Inconsistent(_))), "{field} = {value}: {error:?}");
    }
}

#[test]
fn more_steps_than_were_recorded_is_an_error_at_once() {
    let mut parts = Parts::of_a_shipped_case();
    parts.description["steps"] = json!(u64::MAX);
    assert!(matches!(parts.parse(), Err(CaseError::MissingTensor(name)) if name == "grad/17/0"));
}

#[test]
fn a_type_that_no_case_has_is_an_error() {
    let mut parts = Parts::of_a_shipped_case();
    parts.description["dtype"] = json!("float16");
    assert!(matches!(parts.parse(), Err(CaseError::Json(_))));
}
