//! Headers of older versions, brought to the present one step by step. Every version has a file in `tests/fixtures`.

use gradient_transform::Estimate;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::format::{VERSION, damaged};

/// A header of version `from`, at most [`VERSION`], as one of the present version.
pub(crate) fn to_present(from: u64, mut header: Value) -> Result<Value> {
    for version in from..VERSION {
        header = match version {
            1 => two(header).ok_or_else(|| damaged("its header is not one of version 1"))?,
            other => return Err(damaged(format!("there is no format version {other}"))),
        };
    }
    Ok(header)
}

/// Version 2 has the transforms' hyperparameters and the learning rate of every group, no estimate where nothing estimates,
/// and can be of an optimizer in evaluation mode.
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
