//! A checkpoint taken apart, to be changed and put together again with the right checksum.

#![allow(dead_code)] // each test takes what it needs

use std::collections::HashMap;

use checkpoint::to_bytes;
use gradient_transform::{Optimizer, Parameter};
use prodigy_plus::ProdigyPlus;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What is in a file, to be changed and put together again.
pub(crate) struct Parts {
    pub(crate) version: String,
    pub(crate) header: Value,
    pub(crate) arrays: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

/// Long enough that its base iterate is an array of its own.
pub(crate) const LONG: usize = 48 * 32;

/// So short that all of its arrays are joined with others.
pub(crate) const SHORT: usize = 6;

pub(crate) fn optimizer() -> Optimizer {
    ProdigyPlus::builder().build([("w", &[48, 32][..]), ("b", &[SHORT])]).unwrap()
}

pub(crate) fn parts() -> Parts {
    let mut trained = optimizer();
    let (mut w, mut b) = ([0.5_f32; LONG], [1.0_f32; SHORT]);
    let (by_w, by_b) = (w, b);
    trained
        .step(&mut [Parameter::slice(&mut w, Some(&by_w)), Parameter::slice(&mut b, Some(&by_b))])
        .unwrap();
    parts_of(&trained)
}

/// What is in the optimizer's file.
pub(crate) fn parts_of(optimizer: &Optimizer) -> Parts {
    taken_apart(&to_bytes(optimizer).unwrap())
}

pub(crate) fn taken_apart(bytes: &[u8]) -> Parts {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let entries = metadata.metadata().as_ref().unwrap();
    let header = serde_json::from_str(&entries["checkpoint"]).unwrap();
    let file = SafeTensors::deserialize(bytes).unwrap();
    let array = |(name, view): (String, TensorView<'_>)| {
        (name, view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    let mut arrays: Vec<_> = file.tensors().into_iter().map(array).collect();
    arrays.sort();
    Parts { version: entries["checkpoint_version"].clone(), header, arrays }
}

/// A file of a version with the right checksum.
pub(crate) fn assembled_as(version: u64, parts: Parts) -> Vec<u8> {
    assembled(Parts { version: version.to_string(), ..parts })
}

/// A file with the right checksum.
pub(crate) fn assembled(Parts { version, header, mut arrays }: Parts) -> Vec<u8> {
    let header = header.to_string();
    arrays.sort();
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(header.as_bytes());
    for (name, _, _, bytes) in &arrays {
        add(name.as_bytes());
        add(bytes);
    }
    let sum: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let metadata = [("checkpoint_version", version), ("checkpoint", header), ("sha256", sum)];
    let metadata: HashMap<String, String> = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let views = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, Some(metadata)).unwrap()
}
