//! Studies of any chain: named optimizers, listed chains, and edits of both.

use ablate::optimizer::{ChainSpec, Groups, Named, OptimizerSpec, Schedule, Setting};
use ablate::registry::Registry;
use ablate::store::Key;
use ablate::study::{Overrides, Recipe, SHIPPED, Study};
use ablate_tasks::Split;
use gradient_transform::{Link, Optimizer, Parameter, ParameterGroup, Settings};
use serde_json::{Map, Value, json};

fn spec(options: Value) -> ChainSpec {
    let Value::Object(options) = options else { panic!("a table") };
    ChainSpec { options, ..ChainSpec::default() }
}

fn groups() -> Groups {
    vec![vec![("w".into(), vec![33, 7]), ("b".into(), vec![40])]]
}

/// The weights after twelve steps, in one of which nothing has a gradient but the second tensor.
fn trained(mut optimizer: Optimizer<f32>) -> Vec<Vec<u32>> {
    optimizer.set_lr(0, 0.01).unwrap();
    let mut values: Vec<Vec<f32>> = [33 * 7, 40].map(|n| (0..n).map(|i| (i as f32).cos()).collect()).into();
    for step in 0..12 {
        let gradients: Vec<Vec<f32>> =
            values.iter().map(|v| v.iter().map(|y| y + (step as f32 * y).sin()).collect()).collect();
        let gradient = |index: usize| (step != 5 || index == 1).then(|| gradients[index].as_slice());
        let mut parameters: Vec<Parameter<'_>> = values
            .iter_mut()
            .enumerate()
            .map(|(index, values)| Parameter::slice(values.as_mut_slice(), gradient(index)))
            .collect();
        optimizer.step(&mut parameters).unwrap();
    }
    values.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

fn by_function(chain: impl Link<f32> + 'static) -> Vec<Vec<u32>> {
    let groups = groups();
    let parameters = groups[0].iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let group = ParameterGroup::new(chain, parameters);
    trained(Optimizer::with_groups([group], Settings::default()).unwrap())
}

fn by_study(spec: &ChainSpec) -> Vec<Vec<u32>> {
    trained(spec.optimizer(&Registry::shipped(), &groups(), 0, 12).unwrap())
}

/// Every named optimizer of a study against the function of its name.
macro_rules! every_named_optimizer {
    ($($name:literal $function:ident)+) => {
        const NAMES: &[&str] = &[$($name),+];

        #[test]
        fn a_named_optimizer_is_the_chain_of_its_function_to_the_bit() {
            $(
                let named = spec(json!({ "optimizer": $name, "lr": 0.01 }));
                assert!(by_study(&named) == by_function(named_optimizers::$function()), $name);
                let listed = spec(json!({ "chain": Named::of($name).unwrap().chain(), "lr": 0.01 }));
                assert!(by_study(&listed) == by_study(&named), $name);
            )+
        }
    };
}

every_named_optimizer! {
    "sgd" sgd "adam" adam "adamw" adamw "amsgrad" amsgrad "nadam" nadam "radam" radam "adamax" adamax "adabelief" adabelief
    "adan" adan "ademamix" ademamix "mars" mars "c-adamw" c_adamw "grams" grams "stableadamw" stableadamw "yogi" yogi
    "prodigy" prodigy "schedule-free-sgd" schedule_free_sgd "schedule-free-adamw" schedule_free_adamw "lars" lars
    "lamb" lamb "lion" lion "sign-sgd" sign_sgd "signum" signum "rprop" rprop
    "optimistic-gradient-descent" optimistic_gradient_descent "adagrad" adagrad "adadelta" adadelta "rmsprop" rmsprop
    "adopt" adopt "adafactor" adafactor "novograd" novograd "dog" dog "l-dog" l_dog "noisy-sgd" noisy_sgd
}

#[test]
fn every_function_of_the_named_optimizers_has_a_name_in_studies() {
    let known: Vec<&str> = Named::all().map(Named::name).collect();
    assert_eq!(known.len(), NAMES.len());
    let sources = ["adam", "estimating", "layerwise", "plain", "scaling"];
    for source in sources {
        let path =
            format!("{}/../../optimizers/named-optimizers/src/{source}.rs", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("pub fn ")) {
            let name = line.split('(').next().unwrap().replace('_', "-");
            assert!(known.contains(&name.as_str()), "{name} is in no list");
        }
    }
}

#[test]
fn published_studies_address_their_runs_as_they_always_did() {
    // The digests of these texts, with `c` for the sources:
    // {"code":"c","evaluations":20,"final_split":"test","optimizer":{"baseline":"adam-w"}, ...}.
    let address = |optimizer: &OptimizerSpec, setting| {
        let options = json!({});
        let key = Key {
            code: "c",
            own: "",
            task: "digits",
            options: &options,
            optimizer,
            setting,
            seed: 0,
            steps: 500,
            evaluations: 20,
            final_split: Split::Test,
            prefix: None,
        };
        key.address().unwrap()
    };
    let study = |name: &str| Study::open(name, &Registry::shipped(), &Overrides::default()).unwrap();
    let of_arm = |study: &Study, name: &str| {
        let planned = study.arms.iter().find(|planned| planned.arm.name == name).unwrap();
        let Recipe::Optimizer(optimizer) = &planned.recipe else { panic!("a chain") };
        optimizer.clone()
    };
    let switches = study("switches");
    let setting = |schedule| Some(Setting { learning_rate: 0.01, schedule });
    assert_eq!(
        address(&of_arm(&switches, "adamw"), setting(Schedule::LinearDecay)),
        "9124cb45c22d4a214b42bf171d70389ea861566852fd674063128a45a1490fc3"
    );
    assert_eq!(
        address(&of_arm(&switches, "schedule-free-adamw"), setting(Schedule::WarmUp)),
        "035300781760462ebffb07f7ffc2ca3bcafffc797005230f79712082f40cacfa"
    );
    assert_eq!(
        address(&of_arm(&switches, "no-schedule-free"), None),
        "d4acbc24b3051ace80f502cde15b4bb97d034a6a15bdcd7661687edfc9128c13"
    );
    let text = "tasks = [\"digits\"]\n[[factor]]\nname = \"a\"\n[factor.on]\nuse_cautious = true\nremove = [\"prodigy\"]\n\
                insert = [{ transform = \"orthograd\", before = \"factored-moment\" }]";
    let own = Study::parse("own", text, &Registry::shipped(), &Overrides::default()).unwrap();
    assert_eq!(
        address(&of_arm(&own, "a"), None),
        "febc09604dacf6ef9ac7a68cc6bb9ed60889c01f2c30192deaf2bd8cf463fa1a"
    );
    for (name, _) in SHIPPED {
        for planned in study(name).arms {
            let Recipe::Optimizer(optimizer) = planned.recipe else { panic!("a chain") };
            let key = serde_json::to_value(&optimizer).unwrap();
            let spec = key.get("chain").and_then(Value::as_object);
            let names = spec.map(|spec| spec.keys().map(String::as_str).collect::<Vec<_>>());
            assert!(names.is_none_or(|names| names == ["insert", "options", "remove", "replace"]), "{key}");
            assert_eq!(serde_json::from_value::<OptimizerSpec>(key).unwrap(), optimizer);
        }
    }
}

fn arms(text: &str) -> anyhow::Result<Study> {
    Study::parse(
        "test",
        &format!("tasks = [\"digits\"]\n{text}"),
        &Registry::shipped(),
        &Overrides::default(),
    )
}

fn chains(text: &str) -> Vec<String> {
    let study = arms(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    study.arms.into_iter().map(|planned| planned.arm.chain).collect()
}

#[test]
fn every_part_of_a_named_optimizer_can_be_a_factor() {
    let text = r#"
        base = { optimizer = "adamw", "adam.beta2" = 0.95 }
        [[factor]]
        name = "decay"
        off = { remove = ["weight-decay"] }
        [[factor]]
        name = "cautious-decay"
        on = { "weight-decay.cautious" = true }
        [[factor]]
        name = "clip"
        on = { insert = [{ transform = { transform = "clip-by-norm", over = "all" }, before = "adam" }] }
        [[factor]]
        name = "after"
        on = { insert = [{ transform = "cautious", after = "descent" }] }
        [[factor]]
        name = "averaged"
        off = { replace = { descent = { transform = "schedule-free", beta1 = 0.95 } } }
        [[factor]]
        name = "lion"
        on = { optimizer = "lion" }
        [[factor]]
        name = "other"
        on = { chain = ["sign", "descent"], lr = 1e-4 }
        [[factor]]
        name = "partition"
        on = { replace = { weight-decay = { transform = "only-for", names = ["*weight"], wraps = "weight-decay" } } }
    "#;
    let adam = "adam (beta2 = 0.95)";
    assert_eq!(
        chains(text),
        [
            format!("{adam} | weight-decay | descent"),
            format!("{adam} | descent"),
            format!("{adam} | weight-decay (cautious = true) | descent"),
            format!("clip-by-norm (over = \"all\") | {adam} | weight-decay | descent"),
            format!("{adam} | weight-decay | descent | cautious"),
            format!("{adam} | weight-decay | schedule-free (beta1 = 0.95)"),
            "lion | weight-decay (rate = 0.001) | descent".to_owned(),
            "sign | descent".to_owned(),
            format!("{adam} | only-for (names = [\"*weight\"], wraps = \"weight-decay\") | descent"),
        ]
    );
}

#[test]
fn what_cannot_be_combined_is_told_with_its_reason() {
    let text = r#"
        design = "pairs"
        base = { optimizer = "adamw" }
        [[factor]]
        name = "decay"
        off = { remove = ["weight-decay"] }
        [[factor]]
        name = "cautious-decay"
        on = { "weight-decay.cautious" = true }
        [[factor]]
        name = "lion"
        on = { optimizer = "lion" }
    "#;
    let study = arms(text).unwrap();
    let refused: Vec<&str> = study.refused.iter().map(|refused| refused.name.as_str()).collect();
    // Lion has a decay of its own, which can go and be cautious as well.
    assert_eq!(refused, ["no-decay+cautious-decay"]);
    assert!(study.refused[0].reason.contains("no transform \"weight-decay\""), "{}", study.refused[0].reason);
}

#[test]
fn a_schedule_is_a_part_whose_steps_may_be_shares_of_the_run() {
    let cosine = json!({ "transform": "schedule", "schedule": { "cosine": { "from": 1.0, "to": 0.0, "steps": "100%" } } });
    let in_steps =
        json!({ "transform": "schedule", "schedule": { "cosine": { "from": 1.0, "to": 0.0, "steps": 12 } } });
    let with =
        |schedule: &Value| by_study(&spec(json!({ "chain": ["adam", schedule, "descent"], "lr": 0.01 })));
    assert!(with(&cosine) == with(&in_steps));
    assert!(with(&cosine) != by_study(&spec(json!({ "optimizer": "adam" }))));
}

#[test]
fn mistakes_in_chains_are_named_with_the_nearest_name() {
    let error = |text: &str| format!("{:#}", arms(text).err().unwrap());
    let factor = |change: &str| {
        format!("base = {{ optimizer = \"adamw\" }}\n[[factor]]\nname = \"a\"\non = {{ {change} }}")
    };
    let cases = [
        ("base = { optimizer = \"adamww\" }".to_owned(), "perhaps \"adamw\""),
        ("base = { optimizer = 3 }".to_owned(), "optimizer is a name"),
        ("base = { chain = [], lr = 1 }".to_owned(), "an empty list moves nothing"),
        ("base = { chain = \"adam\", lr = 1 }".to_owned(), "chain is a list"),
        ("base = { chain = [\"adam\", \"descend\"], lr = 1 }".to_owned(), "perhaps \"descent\""),
        ("base = { chain = [\"adam\"], lr = 1 }".to_owned(), "nothing writes the parameters"),
        ("base = { chain = [\"adam\", \"descent\"] }".to_owned(), "give `lr`, or tune it"),
        (
            "base = { chain = [\"adam\", \"descent\"], optimizer = \"sgd\", lr = 1 }".to_owned(),
            "give one of them",
        ),
        (
            "base = { chain = [{ transform = \"adam\", betta1 = 0.5 }, \"descent\"], lr = 1 }".to_owned(),
            "perhaps \"beta1\"",
        ),
        (
            "base = { optimizer = \"adamw\", weight_decay = 0.1 }".to_owned(),
            "those of its members have a dot",
        ),
        ("base = { optimizer = \"adamw\", \"adma.beta2\" = 0.1 }".to_owned(), "perhaps \"adam\""),
        ("base = { optimizer = \"adamw\", \"adam.beta3\" = 0.1 }".to_owned(), "no option \"beta3\""),
        (factor("\"adam.beta2.x\" = 3"), "option"),
        (factor("remove = [\"adan\"]"), "perhaps \"adam\""),
        (factor("insert = [{ transform = \"sign\" }]"), "needs `before` or `after`"),
        (
            factor("insert = [{ transform = \"sign\", before = \"adam\", after = \"adam\" }]"),
            "needs `before` or `after`",
        ),
        (factor("insert = [{ transform = \"only-for\", before = \"adam\" }]"), "a transform under `wraps`"),
    ];
    for (text, expected) in cases {
        assert!(error(&text).contains(expected), "{text}: {}", error(&text));
    }
}

#[test]
fn a_nested_part_has_its_options_by_a_longer_path() {
    let text = r#"
        base = { chain = ["adam", { transform = "only-for", least_rank = 2, wraps = "weight-decay" }, "descent"], lr = 1e-3 }
        [[factor]]
        name = "strong"
        on = { "only-for.wraps.rate" = 0.5 }
        [[factor]]
        name = "adopt"
        on = { optimizer = "adopt", "adopt.moment.beta2" = 0.99 }
    "#;
    let chains = chains(text);
    assert_eq!(
        chains[1],
        "adam | only-for (least_rank = 2, wraps = { rate = 0.5, transform = \"weight-decay\" }) | descent"
    );
    assert!(chains[2].contains("beta2 = 0.99"), "{}", chains[2]);
}

mod random_chains {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn names() -> Vec<String> {
        let registry = Registry::shipped();
        registry.transforms().iter().map(|kind| kind.name.clone()).collect()
    }

    proptest! {
        #![proptest_config(Config { cases: 200, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() })]

        /// Whatever is listed and edited, it is an optimizer that takes a step, or refused.
        #[test]
        fn are_optimizers_or_are_refused(
            mut chain in prop::collection::vec(select(names()), 0..4),
            writer in select(vec!["descent", "schedule-free", "lookahead"]),
            inserted in select(names()),
            at in any::<Index>(),
            is_before in any::<bool>(),
        ) {
            chain.push(writer.to_owned());
            let neighbour = chain[at.index(chain.len())].clone();
            let (before, after) = if is_before { (Some(neighbour), None) } else { (None, Some(neighbour)) };
            let insert = vec![ablate::optimizer::Insertion { transform: json!(inserted), before, after }];
            let spec = ChainSpec { insert, ..spec(json!({ "chain": chain, "lr": 1e-3 })) };
            match spec.describe(&Registry::shipped()) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(described) => {
                    prop_assert_eq!(described.split(" | ").count(), chain.len() + 1);
                    let spec = OptimizerSpec::Chain(spec);
                    let mut optimizer = spec.build(&Registry::shipped(), &groups(), 0, 10).unwrap();
                    let mut weights = vec![vec![0.5; 33 * 7], vec![0.5; 40]];
                    let gradients = weights.iter().map(|w| Some(w.clone())).collect::<Vec<_>>();
                    optimizer.step(&mut weights, &gradients, 1.0).unwrap();
                    prop_assert!(weights.iter().flatten().all(|weight| weight.is_finite()));
                }
            }
        }

        /// An edit and its opposite leave the chain as it was.
        #[test]
        fn are_what_they_were_after_a_part_is_put_in_and_taken_out(named in select(Named::all().collect::<Vec<_>>()), at in any::<Index>()) {
            let chain = named.chain();
            let name = |value: &Value| value.as_str().or(value["transform"].as_str()).unwrap().to_owned();
            let neighbour = name(&chain[at.index(chain.len())]);
            let base = spec(json!({ "optimizer": named.name(), "lr": 1.0 }));
            let insert = vec![ablate::optimizer::Insertion { transform: json!("centralise"), before: Some(neighbour), after: None }];
            let with = ChainSpec { insert, ..base.clone() };
            let registry = Registry::shipped();
            prop_assert_eq!(with.transforms(&registry, 1).unwrap().len(), chain.len() + 1);
            let replace = Map::from_iter([(name(&chain[0]), chain[0].clone())]);
            let same = ChainSpec { replace, ..base.clone() };
            prop_assert_eq!(same.describe(&registry).unwrap(), base.describe(&registry).unwrap());
        }
    }
}
