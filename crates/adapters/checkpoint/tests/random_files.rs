//! Random damage to checkpoints: whatever a file says, it is read or refused, and what was read can be stepped.
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p checkpoint --test random_files` tests more files, and
//! `PROPTEST_RNG_SEED` at others.

mod parts;

use checkpoint::from_bytes;
use gradient_transform::Parameter;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, contextualize_config};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use parts::{LONG, SHORT, assembled, optimizer, parts};

fn cases(cases: u32) -> Config {
    let rng_seed = RngSeed::Fixed(1);
    contextualize_config(Config { cases, rng_seed, failure_persistence: None, ..Config::default() })
}

/// What JSON can have in a place where something else is expected.
fn value() -> impl Strategy<Value = Value> {
    let numbers =
        vec![json!(0), json!(-1), json!(1), json!(7), json!(u64::MAX), json!(1_u64 << 53), json!(i64::MIN)];
    let floats = vec![json!(0.5), json!(-0.0), json!(1e308), json!(5e-324), json!(1e-6), json!(-1e-6)];
    let others = vec![
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!("f32"),
        json!("f64"),
        json!("bf16"),
        json!(""),
    ];
    let names = vec![
        json!("w"),
        json!("schedule-free/z"),
        json!(["schedule-free/z"]),
        json!("optimizer/y"),
        json!([48, 32]),
        json!(["f32", 6]),
        json!(["bf16", 0]),
        json!(["f32", u64::MAX]),
    ];
    select([numbers, floats, others, names].concat())
}

/// One change somewhere in a tree.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Double,
    Rename(String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        1 => Just(Change::Double),
        1 => select(vec!["w", "b", "x", "", "w/schedule-free"]).prop_map(|name| Change::Rename(name.to_owned())),
    ]
}

fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(members) => members.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the member with this number, counted from the root on.
fn apply(tree: &mut Value, at: &mut usize, change: &Change) {
    fn descend(child: &mut Value, at: &mut usize, change: &Change) -> bool {
        if *at == 0 {
            return true;
        }
        *at -= 1;
        apply(child, at, change);
        *at == usize::MAX
    }
    const DONE: usize = usize::MAX;
    match tree {
        Value::Array(members) => {
            for index in 0..members.len() {
                if descend(&mut members[index], at, change) {
                    if *at != DONE {
                        match change {
                            Change::Replace(value) => members[index] = value.clone(),
                            Change::Remove => drop(members.remove(index)),
                            Change::Double | Change::Rename(_) => {
                                members.insert(index, members[index].clone())
                            }
                        }
                        *at = DONE;
                    }
                    return;
                }
            }
        }
        Value::Object(members) => change_member(members, at, change, descend, DONE),
        _ => {}
    }
}

fn change_member(
    members: &mut Map<String, Value>,
    at: &mut usize,
    change: &Change,
    descend: fn(&mut Value, &mut usize, &Change) -> bool,
    done: usize,
) {
    let keys: Vec<String> = members.keys().cloned().collect();
    for key in keys {
        let Some(child) = members.get_mut(&key) else { continue };
        if !descend(child, at, change) {
            continue;
        }
        if *at != done {
            let child = child.clone();
            match change {
                Change::Replace(value) => drop(members.insert(key, value.clone())),
                Change::Remove => drop(members.remove(&key)),
                Change::Double => drop(members.insert(format!("{key}2"), child)),
                Change::Rename(name) => {
                    members.remove(&key);
                    members.insert(name.clone(), child);
                }
            }
            *at = done;
        }
        return;
    }
}

/// What is done to an array.
#[derive(Clone, Debug)]
enum Damage {
    Dtype(Dtype),
    Rename(String),
    Remove,
    Shorten,
    Fill(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        select(vec![Dtype::F64, Dtype::BF16, Dtype::U8, Dtype::BOOL]).prop_map(Damage::Dtype),
        select(vec!["w/schedule-free/z", "joined/f32/schedule-free/z", "joined/bf16/prodigy/s", "b", ""])
            .prop_map(|name| Damage::Rename(name.to_owned())),
        Just(Damage::Remove),
        Just(Damage::Shorten),
        any::<u8>().prop_map(Damage::Fill),
    ]
}

/// Reads the file. A run can resume from a valid file; an invalid one changes nothing.
fn read(bytes: &[u8]) {
    let mut optimizer = optimizer();
    let before = optimizer.snapshot();
    match from_bytes(bytes, &mut optimizer) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(optimizer.snapshot(), before);
        }
        Ok(_) => {
            let (mut w, mut b) = ([0.5_f32; LONG], [1.0_f32; SHORT]);
            let (by_w, by_b) = (w, b);
            let mut parameters =
                [Parameter::slice(&mut w, Some(&by_w)), Parameter::slice(&mut b, Some(&by_b))];
            if optimizer.is_evaluating() {
                let _ = optimizer.train(&mut parameters);
            }
            let _ = optimizer.step(&mut parameters);
            let _ = optimizer.eval(&mut parameters);
            drop(optimizer.snapshot());
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn changed_contents_with_the_right_checksum(
        changes in prop::collection::vec((any::<Index>(), change()), 1..4),
        damaged in prop::collection::vec((any::<Index>(), damage()), 0..2),
    ) {
        let mut parts = parts();
        for (at, change) in changes {
            let mut at = at.index(count(&parts.header));
            apply(&mut parts.header, &mut at, &change);
        }
        for (at, damage) in damaged {
            let index = at.index(parts.arrays.len());
            let (name, dtype, shape, bytes) = &mut parts.arrays[index];
            match damage {
                Damage::Dtype(other) => {
                    *dtype = other;
                    *shape = vec![bytes.len() * 8 / other.bitsize()];
                    bytes.truncate(shape[0] * other.bitsize() / 8);
                }
                Damage::Rename(other) => *name = other,
                Damage::Remove => drop(parts.arrays.remove(index)),
                Damage::Shorten => {
                    bytes.truncate(dtype.bitsize() / 8);
                    *shape = vec![bytes.len() * 8 / dtype.bitsize()];
                }
                Damage::Fill(byte) => bytes.fill(byte),
            }
        }
        parts.arrays.sort();
        parts.arrays.dedup_by(|a, b| a.0 == b.0);
        read(&assembled(parts));
    }

    #[test]
    fn changed_bytes(
        splices in prop::collection::vec((any::<Index>(), 0..9usize, prop::collection::vec(any::<u8>(), 0..9)), 1..4),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut bytes = assembled(parts());
        for (at, removed, inserted) in splices {
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        read(&bytes);
    }
}
