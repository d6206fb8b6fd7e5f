#![doc = include_str!("../README.md")]

mod chain;
mod kind;
mod list;
mod trainable;
mod wrappers;

pub use chain::Chain;
pub use kind::{Boxed, Resolve, TransformKind, WRAPPED, build, described_transform, written_options};
pub use list::shipped;
pub use trainable::{Groups, Step, TrainableOptimizer};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use gradient_transform::Link;
    use serde_json::{Map, Value, json};

    use super::*;

    fn described(kind: &TransformKind) -> Map<String, Value> {
        let mut described = Map::from_iter([("transform".to_owned(), json!(kind.name))]);
        if kind.defaults.get(WRAPPED).is_some() {
            described.insert(WRAPPED.to_owned(), json!("sign"));
            described.extend([("least_rank".to_owned(), json!(2)), ("names".to_owned(), json!(["*"]))]);
        }
        described
    }

    fn without_null(value: &Value) -> Value {
        match value {
            Value::Object(inner) => {
                let given = inner.iter().filter(|(_, value)| !value.is_null());
                Value::Object(given.map(|(name, value)| (name.clone(), without_null(value))).collect())
            }
            value => value.clone(),
        }
    }

    #[test]
    fn every_transform_is_called_what_it_calls_itself() {
        let kinds = shipped();
        for kind in shipped() {
            let transform = build(&kinds, &Value::Object(described(&kind))).unwrap();
            // Wrappers go by the name of what they wrap, as their state does.
            let expected = match kind.name.as_str() {
                "adopt" => "dense-moment",
                "only-for" => "sign",
                name => name,
            };
            assert_eq!(Link::<f32>::name(&transform), expected);
        }
    }

    #[test]
    fn names_are_distinct_and_every_kind_has_a_line_of_explanation() {
        let kinds = shipped();
        let names: BTreeSet<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!(names.len(), kinds.len());
        assert!(kinds.iter().all(|kind| !kind.summary.is_empty() && !kind.summary.contains('\n')));
    }

    #[test]
    fn every_option_can_be_given_and_its_default_is_what_it_is_without() {
        let kinds = shipped();
        for kind in shipped() {
            let options = kind.defaults.as_object().unwrap().iter();
            // An absent number has no value that could be written.
            for (name, default) in options.filter(|(name, value)| *name != WRAPPED && !value.is_null()) {
                let mut with = described(&kind);
                with.insert(name.clone(), without_null(default));
                let built = build(&kinds, &Value::Object(with));
                assert!(built.is_ok(), "{} {name}: {:#}", kind.name, built.err().unwrap());
            }
            let mut wrong = described(&kind);
            wrong.insert("no_such_option".to_owned(), json!(1));
            let error = build(&kinds, &Value::Object(wrong)).err().unwrap();
            assert!(format!("{error:#}").contains("no_such_option"), "{}: {error:#}", kind.name);
        }
    }

    #[test]
    fn a_name_with_a_typing_error_is_refused_with_the_nearest_one() {
        let kinds = shipped();
        let error = |described: Value| format!("{:#}", build(&kinds, &described).err().unwrap());
        assert!(error(json!("adan2")).contains("perhaps \"adan\""));
        assert!(error(json!("wieght-decay")).contains("perhaps \"weight-decay\""));
        let error = error(json!({ "transform": "adam", "beta_1": 0.5 }));
        assert!(error.contains("transform adam") && error.contains("perhaps \"beta1\""), "{error}");
    }
}
