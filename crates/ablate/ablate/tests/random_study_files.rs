//! Random damage to study files: whatever a file says, it is a study or refused, before anything runs.
//!
//! `PROPTEST_CASES=1000000 cargo test --release -p ablate --test random_study_files` looks at more files, and
//! `PROPTEST_RNG_SEED` at others.

use std::sync::OnceLock;

use ablate::execute::run_counts;
use ablate::registry::Registry;
use ablate::study::{Overrides, SHIPPED, Study};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, contextualize_config};
use toml::Value;

fn cases(cases: u32) -> Config {
    let rng_seed = RngSeed::Fixed(1);
    contextualize_config(Config { cases, rng_seed, failure_persistence: None, ..Config::default() })
}

/// Those that ship, and one of a listed chain.
fn studies() -> Vec<&'static str> {
    let example = include_str!("../../../../examples/adamw_decay.toml");
    SHIPPED.iter().map(|(_, text)| *text).chain([example]).collect()
}

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::shipped)
}

/// Values that TOML can have in a place where something else is expected.
fn value() -> impl Strategy<Value = Value> {
    let numbers = [0, 1, -1, 40, i64::MAX, i64::MIN].map(Value::Integer);
    let floats = [0.0, 0.5, -1.0, 1e308, 5e-324, f64::NAN, f64::INFINITY].map(Value::Float);
    let words = ["", "digits", "adamw", "factorial", "adam", "../x", "a\u{0}b", "10%"]
        .map(|word| Value::String(word.to_owned()));
    let others = [Value::Boolean(true), Value::Array(Vec::new()), Value::Table(toml::Table::new())];
    select([&numbers[..], &floats, &words, &others].concat())
}

#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    /// A member of an array several times; a member of a table under another name.
    Repeat(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        1 => select(vec![1, 2, 70]).prop_map(Change::Repeat),
    ]
}

/// The members of arrays and tables, by their places from the root.
fn places(tree: &Value, above: &[usize], into: &mut Vec<Vec<usize>>) {
    let children: Vec<&Value> = match tree {
        Value::Array(members) => members.iter().collect(),
        Value::Table(members) => members.values().collect(),
        _ => Vec::new(),
    };
    for (index, child) in children.into_iter().enumerate() {
        let place = [above, &[index]].concat();
        places(child, &place, into);
        into.push(place);
    }
}

fn apply(tree: &mut Value, place: &[usize], change: &Change) {
    let Some((&index, below)) = place.split_first() else { return };
    match tree {
        Value::Array(members) if !below.is_empty() => apply(&mut members[index], below, change),
        Value::Array(members) => match change {
            Change::Replace(value) => members[index] = value.clone(),
            Change::Remove => drop(members.remove(index)),
            Change::Repeat(times) => {
                let member = members[index].clone();
                members.extend(std::iter::repeat_n(member, *times));
            }
        },
        Value::Table(members) => {
            let key = members.keys().nth(index).unwrap().clone();
            match change {
                _ if !below.is_empty() => apply(&mut members[&key], below, change),
                Change::Replace(value) => drop(members.insert(key, value.clone())),
                Change::Remove => drop(members.remove(&key)),
                Change::Repeat(_) => {
                    let member = members[&key].clone();
                    members.insert(format!("{key}_"), member);
                }
            }
        }
        _ => {}
    }
}

/// Reads the text, and what a study is asked before it runs.
fn read(text: &str, overrides: &Overrides) {
    match Study::parse("random", text, registry(), overrides) {
        Err(error) => assert!(!format!("{error:#}").is_empty()),
        Ok(study) => {
            assert!(!study.tasks.is_empty() && !study.arms.is_empty());
            let reported = run_counts(&study).reported;
            assert!(reported > 0);
            drop(study.info());
        }
    }
}

fn overrides() -> impl Strategy<Value = Overrides> {
    let seeds = prop::option::weighted(0.2, select(vec![0, 1, usize::MAX]));
    let length = prop::option::weighted(0.2, select(vec![0.0, -1.0, 1e-300, 1e300, f64::NAN]));
    (seeds, length).prop_map(|(seeds, length)| Overrides { seeds, length, ..Overrides::default() })
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn changed_values(
        text in select(studies()),
        changes in prop::collection::vec((any::<Index>(), change()), 1..4),
        overrides in overrides(),
    ) {
        let mut tree = Value::Table(text.parse().unwrap());
        for (at, change) in changes {
            let mut all = Vec::new();
            places(&tree, &[], &mut all);
            if !all.is_empty() {
                apply(&mut tree, &all[at.index(all.len())], &change);
            }
        }
        read(&toml::to_string(&tree).unwrap(), &overrides);
    }

    #[test]
    fn changed_bytes(
        text in select(studies()),
        splices in prop::collection::vec((any::<Index>(), 0..9usize, "[a-z0-9=\\[\\]{}\",.#\n -]{0,9}"), 1..4),
    ) {
        let mut text: Vec<char> = text.chars().collect();
        for (at, removed, inserted) in splices {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        read(&text.into_iter().collect::<String>(), &Overrides::default());
    }
}

/// Found above.
#[test]
fn numbers_whose_products_overflow_are_refused_by_name() {
    for (line, expected) in [
        ("[tuning]\nseeds = 9223372036854775807", "tuning.seeds"),
        ("length = 1e300", "1e302 steps; at most 1e12"),
        ("[[tasks]]\ntask = \"digits\"\nhidden = [9223372036854775807]", "hidden"),
        ("[[tasks]]\ntask = \"characters\"\nlayers = 9223372036854775807", "layers"),
    ] {
        let tasks =
            if line.contains("tasks") { "" } else { "tasks = [{ task = \"digits\", steps = 100 }]\n" };
        let text = format!("{tasks}{line}\n");
        let result = Study::parse("numbers", &text, registry(), &Overrides::default());
        let error = result.err().unwrap();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
