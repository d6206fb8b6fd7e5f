//! Every documented option, alone.

use gradient_transform::Parameter;
use prodigy_plus::Options;
use serde_json::{Value, json};

const SHAPES: [(&str, &[usize]); 3] = [("matrix", &[34, 9]), ("vector", &[7]), ("zero", &[40])];

/// What each line documents, and a value that is not its default.
fn documented(line: &str) -> Vec<(&'static str, Value)> {
    let mut options = vec![
        ("lr", json!(0.5)),
        ("betas", json!([0.95, 0.999])),
        ("beta3", json!(0.8)),
        ("weight_decay", json!(0.1)),
        ("weight_decay_by_lr", json!(false)),
        ("d0", json!(1e-4)),
        ("d_coef", json!(2.0)),
        ("prodigy_steps", json!(3)),
        ("eps", Value::Null),
        ("split_groups", json!(false)),
        ("split_groups_mean", json!(line == "2.0.1")),
        ("factored", json!(false)),
        ("factored_fp32", json!(false)),
        ("use_bias_correction", json!(true)),
        ("use_stableadamw", json!(false)),
        ("use_speed", json!(true)),
        ("stochastic_rounding", json!(false)),
        ("fused_back_pass", json!(true)),
        ("use_cautious", json!(true)),
        ("use_grams", json!(true)),
        ("use_adopt", json!(true)),
        ("use_orthograd", json!(true)),
        ("use_focus", json!(true)),
    ];
    options.extend(match line {
        "1.9.2" => vec![("use_muon_pp", json!(true))],
        _ => vec![
            ("d_limiter", json!(false)),
            ("schedulefree_c", json!(8.0)),
            ("use_schedulefree", json!(false)),
        ],
    });
    options
}

/// The parameters after some steps on a bowl.
fn trained(options: &Options) -> Vec<f32> {
    let mut optimizer = options.build(SHAPES).unwrap();
    let mut values: Vec<Vec<f32>> = SHAPES
        .iter()
        .map(|(name, shape)| {
            let start = |i: usize| if *name == "zero" { 0.0 } else { (i as f32 * 0.7).sin() };
            (0..shape.iter().product()).map(start).collect()
        })
        .collect();
    for t in 0..24 {
        let noise = |i: usize| (i as f32 * 3.1 + t as f32 * 5.3).sin();
        let gradient = |(i, y): (usize, &f32)| 0.1 * (y - 0.3) + 0.05 * noise(i);
        let gradients: Vec<Vec<f32>> =
            values.iter().map(|value| value.iter().enumerate().map(gradient).collect()).collect();
        let parameters = values.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            parameters.map(|(value, gradient)| Parameter::slice(value, Some(gradient))).collect();
        let _ = optimizer.step(&mut parameters).unwrap();
    }
    values.concat()
}

#[test]
fn every_documented_option_works_as_the_only_one_that_is_set() {
    // From here on d is found, and not held by the limit to its growth.
    const D0: f64 = 0.01;
    // What changes nothing here: one group, float32, no decay, and ways of stepping.
    const WITHOUT_EFFECT: [&str; 6] = [
        "split_groups",
        "split_groups_mean",
        "factored_fp32",
        "stochastic_rounding",
        "fused_back_pass",
        "weight_decay_by_lr",
    ];
    for line in ["1.9.2", "2.0.1"] {
        let read = |options: Value| serde_json::from_value::<Options>(options).unwrap();
        let defaults = trained(&read(json!({ "line": line, "d0": D0 })));
        for (option, value) in documented(line) {
            let values = trained(&read(json!({ "line": line, "d0": D0, option: value })));
            assert!(values.iter().all(|value| value.is_finite()), "{line}: {option}");
            let changes = values != defaults;
            assert_eq!(changes, !WITHOUT_EFFECT.contains(&option), "{line}: {option}");
        }
    }
}
