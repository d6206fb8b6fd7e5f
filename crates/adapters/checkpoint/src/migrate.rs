//! Conversion of older headers to the current version, one version at a time. Every version has a file in
//! `tests/fixtures`.

use std::collections::BTreeMap;

use gradient_transform::{Buffer, Estimate};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::format::{VERSION, damaged};

/// A header of version `from`, at most [`VERSION`], as one of the current version.
pub(crate) fn to_present(from: u64, mut header: Value) -> Result<Value> {
    for version in from..VERSION {
        header = match version {
            1 => two(header).ok_or_else(|| damaged("its header is not one of version 1"))?,
            2 => three(header).ok_or_else(|| damaged("its header is not one of version 2"))?,
            3 => four(header).ok_or_else(|| damaged("its header is not one of version 3"))?,
            other => return Err(damaged(format!("there is no format version {other}"))),
        };
    }
    Ok(header)
}

/// Until version 2, estimators sampled every 11th element of every tensor. If an axis other than the first is
/// a multiple of 11, they sample other elements now, because the old samples were always from the same
/// columns; the old state is not used.
pub(crate) fn drop_other_samples(from: u64, shape: &[usize], arrays: &mut BTreeMap<String, Buffer>) {
    const SAMPLES: [&str; 4] = ["prodigy/p0", "prodigy/s", "speed/p0", "speed/s"];
    let fell_in_step = shape.iter().skip(1).any(|axis| axis.is_multiple_of(11));
    if from < 3 && fell_in_step {
        SAMPLES.iter().for_each(|key| drop(arrays.remove(*key)));
    }
}

/// Version 2 has the transforms' hyperparameters and the learning rate of every group, no estimate without an
/// estimator, and can be of an optimizer in evaluation mode.
fn two(header: Value) -> Option<Value> {
    let Value::Object(mut header) = header else { return None };
    let chains = serde_json::from_value::<Vec<String>>(header.remove("chains")?).ok()?;
    let states = serde_json::from_value::<Vec<Map<String, Value>>>(header.remove("groups")?).ok()?;
    let fixed = serde_json::to_value(Estimate::FIXED).ok()?;
    let groups: Vec<Value> = chains
        .iter()
        .zip(states)
        .map(|(chain, mut state)| {
            if state.get("estimate") == Some(&fixed) {
                state.insert("estimate".to_owned(), Value::Null);
            }
            let transforms: Vec<&str> = chain.split(" | ").collect();
            json!({"transforms": transforms, "learning_rate": null, "state": state})
        })
        .collect();
    header.insert("groups".to_owned(), Value::Array(groups));
    header.insert("evaluating".to_owned(), Value::Bool(false));
    Some(Value::Object(header))
}

/// Version 3 has the transforms, the averaging and the parameters' names in the state of every group. The
/// names are not known, so groups are matched by position; the averaging is taken from the text about
/// Schedule-Free, if there is one.
fn three(mut header: Value) -> Option<Value> {
    for group in header.get_mut("groups")?.as_array_mut()? {
        let group = group.as_object_mut()?;
        let transforms = serde_json::from_value::<Vec<String>>(group.remove("transforms")?).ok()?;
        let beta1 = transforms.iter().find_map(|text| {
            let (beta1, _) = text.strip_prefix("ScheduleFree { beta1: ")?.split_once(',')?;
            beta1.parse::<f64>().ok()
        });
        let averaging = beta1.map(|weight| json!({"weight": weight, "base": "schedule-free/z"}));
        // Version 1 had the names of the transforms only.
        let has_hyperparameters = group.get("learning_rate").is_some_and(|rate| !rate.is_null());
        let transforms = if has_hyperparameters { transforms } else { Vec::new() };
        let state = group.get_mut("state")?.as_object_mut()?;
        state.insert("transforms".to_owned(), json!(transforms));
        state.insert("averaging".to_owned(), json!(averaging));
        state.insert("parameters".to_owned(), json!([]));
    }
    Some(header)
}

/// Version 4 joins short arrays, and describes equal parameters once. In a file of version 3, every array is
/// separate, and every parameter has its own kind.
fn four(mut header: Value) -> Option<Value> {
    let parameters = std::mem::take(header.get_mut("parameters")?.as_object_mut()?);
    let mut kinds = Vec::with_capacity(parameters.len());
    let mut numbers = Map::new();
    for (name, mut kind) in parameters {
        let keys = serde_json::from_value::<Vec<String>>(kind.get_mut("arrays")?.take()).ok()?;
        let arrays: Map<String, Value> = keys.iter().map(|key| (key.clone(), Value::Null)).collect();
        if arrays.len() < keys.len() {
            return None;
        }
        *kind.get_mut("arrays")? = Value::Object(arrays);
        numbers.insert(name, kinds.len().into());
        kinds.push(kind);
    }
    let header = header.as_object_mut()?;
    header.insert("kinds".to_owned(), Value::Array(kinds));
    header.insert("parameters".to_owned(), Value::Object(numbers));
    Some(Value::Object(std::mem::take(header)))
}
