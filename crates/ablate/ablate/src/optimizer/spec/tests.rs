use super::*;
use serde_json::json;

fn change(text: &str) -> Change {
    toml::from_str(text).unwrap()
}

fn names(spec: &ChainSpec) -> Vec<String> {
    let chain = spec.transforms(&Registry::shipped(), 100).unwrap();
    chain.iter().map(|transform| transform.name().to_owned()).collect()
}

#[test]
fn options_and_edits_make_the_chain() {
    let base = ChainSpec::default();
    let with = |text: &str| base.with(&change(text), &Map::new()).unwrap();
    assert_eq!(names(&base), ["factored-moment", "stableadamw", "prodigy", "schedule-free"]);
    assert_eq!(names(&with("use_stableadamw = false")), ["factored-moment", "prodigy", "schedule-free"]);
    assert_eq!(names(&with(r#"remove = ["prodigy"]"#)), ["factored-moment", "stableadamw", "schedule-free"]);
    assert_eq!(
        names(&with(r#"replace = { schedule-free = "descent" }"#)),
        ["factored-moment", "stableadamw", "prodigy", "descent"]
    );
    assert_eq!(
        names(&with(r#"insert = [{ transform = "orthograd", before = "factored-moment" }]"#))[0],
        "orthograd"
    );
}

#[test]
fn one_word_is_enough_for_what_follows_from_it_in_both_lines() {
    for line in ["1.9.2", "2.0.1"] {
        let with = |text: &str| {
            let text = format!("line = \"{line}\"\n{text}");
            names(&ChainSpec::default().with(&change(&text), &Map::new()).unwrap())
        };
        assert!(with("").iter().any(|name| name.ends_with("stableadamw")));
        assert!(!with("eps = \"none\"").iter().any(|name| name.ends_with("stableadamw")));
        assert!(with("use_focus = true").contains(&"focus".to_owned()));
        assert!(with("use_schedulefree = false").contains(&"descent".to_owned()));
    }
}

#[test]
fn nested_options_and_none_are_understood() {
    let spec = ChainSpec::default()
        .with(&change("\"compat.wrong_row_mean\" = true\neps = \"none\""), &Map::new())
        .unwrap();
    let options = spec.options().unwrap();
    assert!(options.compat.wrong_row_mean);
    assert_eq!(options.eps, None);
}

#[test]
fn an_unknown_option_or_transform_is_an_error_that_shows_the_known_ones() {
    let with = |text: &str| ChainSpec::default().with(&change(text), &Map::new()).unwrap();
    let error = format!("{:#}", with("use_lion = true").options().unwrap_err());
    assert!(error.contains("use_lion") && error.contains("use_adopt"), "{error}");
    let error = with(r#"remove = ["lion"]"#).transforms(&Registry::shipped(), 100).err().unwrap().to_string();
    assert!(error.contains("lion") && error.contains("schedule-free"), "{error}");
}

#[test]
fn an_option_of_the_wrong_kind_is_named_and_so_is_one_that_would_have_no_effect() {
    let cases = [
        ("weight_decay = \"0.5\"", "option weight_decay = \"0.5\""),
        ("weight_decay = nan", "option weight_decay: a number that is not finite"),
        ("eps = nan", "option eps"), // and not Adam-atan2
        ("betas = [0.9, inf]", "option betas"),
        ("\"compat.wrong_row_mean\" = 3", "option compat.wrong_row_mean = 3"),
        ("compat = { wrong_row_mean = 3 }\n\"compat.wrong_row_mean\" = true", "options compat and"),
        ("seed = 3", "option seed"),
        ("prodigy_steps = -1\nlr = 0.5", "option prodigy_steps = -1"),
    ];
    for (text, expected) in cases {
        let options: Map<String, Value> = toml::from_str(text).unwrap();
        let error = format!("{:#}", ChainSpec { options, ..ChainSpec::default() }.options().unwrap_err());
        assert!(error.contains(expected), "{text}: {error}");
    }
    let registry = Registry::shipped();
    let error = registry.transform(&json!({ "transform": "focus", "beta2": "high" })).err().unwrap();
    assert!(format!("{error:#}").contains("option beta2"), "{error:#}");
    let error = registry.task("digits").unwrap().build(&json!({ "batch": "all" })).err().unwrap();
    assert!(format!("{error:#}").contains("option batch"), "{error:#}");
}

#[test]
fn factors_that_contradict_each_other_are_refused_but_may_change_the_base() {
    let base = Map::from_iter([("d_coef".to_owned(), json!(2.0))]);
    let spec = ChainSpec { options: base.clone(), ..ChainSpec::default() };
    let first = spec.with(&change("d_coef = 0.5"), &base).unwrap();
    assert!(first.with(&change("d_coef = 0.5"), &base).is_ok());
    let error = first.with(&change("d_coef = 1.0"), &base).unwrap_err().to_string();
    assert!(error.contains("d_coef") && error.contains("0.5"), "{error}");
}
