//! A checkpoint resumes to the bit, and a damaged one changes nothing.

mod parts;

use checkpoint::{Error, from_bytes, to_bytes};
use gradient_transform::{Descent, Link, Optimizer, Parameter, Restored, StateSpec, Storage, TensorInfo};
use half::bf16;
use prodigy_plus::{Options, ProdigyPlus};
use safetensors::SafeTensors;

const SHAPES: [(&str, &[usize]); 2] = [("layer/w", &[6, 4]), ("b", &[6])];

fn options() -> Options {
    ProdigyPlus::builder().use_cautious(true).weight_decay(0.01)
}

/// Takes `steps` steps from step `from` on.
fn train(optimizer: &mut Optimizer, w: &mut [bf16], b: &mut [f32], from: u64, steps: u64) {
    for step in from..from + steps {
        let wave = |i: usize| ((i as u64 * 7 + step * 13) % 11) as f32 / 11.0 - 0.4;
        let by_w: Vec<bf16> =
            w.iter().enumerate().map(|(i, w)| bf16::from_f32(w.to_f32() + wave(i))).collect();
        let by_b: Vec<f32> = b.iter().enumerate().map(|(i, b)| b - wave(i)).collect();
        optimizer.step(&mut [Parameter::slice(w, Some(&by_w)), Parameter::slice(b, Some(&by_b))]).unwrap();
    }
}

fn trained() -> (Optimizer, Vec<bf16>, Vec<f32>) {
    let mut optimizer = options().build(SHAPES).unwrap();
    let (mut w, mut b) = (vec![bf16::ONE; 24], vec![0.5; 6]);
    train(&mut optimizer, &mut w, &mut b, 0, 7);
    (optimizer, w, b)
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_to_the_bit() {
    let (mut whole, mut w, mut b) = trained();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    checkpoint::save(&path, &whole).unwrap();
    let mut resumed = options().build(SHAPES).unwrap();
    checkpoint::load(&path, &mut resumed).unwrap();
    assert_eq!(resumed.snapshot(), whole.snapshot());
    let (mut v, mut c) = (w.clone(), b.clone());
    train(&mut whole, &mut w, &mut b, 7, 5);
    train(&mut resumed, &mut v, &mut c, 7, 5);
    assert_eq!((v, c, resumed.snapshot()), (w, b, whole.snapshot()));
}

#[test]
fn equal_states_are_equal_files() {
    let (optimizer, ..) = trained();
    let (bytes, mut other) = (to_bytes(&optimizer).unwrap(), options().build(SHAPES).unwrap());
    from_bytes(&bytes, &mut other).unwrap();
    // An order that is drawn anew each time would hardly be the same so often.
    for _ in 0..20 {
        assert!(to_bytes(&other).unwrap() == bytes && to_bytes(&trained().0).unwrap() == bytes);
    }
}

#[test]
fn any_changed_or_missing_byte_is_noticed_and_changes_nothing() {
    let (optimizer, ..) = trained();
    let bytes = to_bytes(&optimizer).unwrap();
    let mut other = options().build(SHAPES).unwrap();
    let before = other.snapshot();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(from_bytes(&flipped, &mut other).is_err(), "byte {at} flipped");
        assert!(from_bytes(&bytes[..at], &mut other).is_err(), "ended at {at}");
    }
    assert_eq!(other.snapshot(), before);
    from_bytes(&bytes, &mut other).unwrap();
}

#[test]
fn a_newer_format_and_other_parameters_are_refused_with_the_reason() {
    let (optimizer, ..) = trained();
    let bytes = to_bytes(&optimizer).unwrap();
    let at = bytes.windows(22).position(|w| w == b"checkpoint_version\":\"4").unwrap() + 21;
    let mut newer = bytes.clone();
    newer[at] = b'5';
    let mut other = options().build(SHAPES).unwrap();
    let error = from_bytes(&newer, &mut other).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 5, known: 4 }), "{error}");

    let mut misfit = options().build([("b", &[6][..])]).unwrap();
    let error = from_bytes(&bytes, &mut misfit).unwrap_err();
    assert!(matches!(error, Error::Misfit(_)) && error.to_string().contains("layer/w"), "{error}");

    let missing = checkpoint::load("no/such/file", &mut misfit).unwrap_err();
    assert!(missing.to_string().contains("no/such/file"), "{missing}");
}

/// Every version of the format has a file here, all of the same state: `v1.safetensors` was written when 1 was the present one.
#[test]
fn a_file_of_every_version_is_read() {
    let shapes: [(&str, &[usize]); 3] = [("layer/w", &[6, 4]), ("b", &[6]), ("later", &[3])];
    let options = ProdigyPlus::builder().use_adopt(true).use_cautious(true).weight_decay(0.01);
    let speedy = options.clone().lr(0.5).use_speed(true);
    let make = || -> Optimizer {
        let groups = [(options.clone(), shapes[..2].to_vec()), (speedy.clone(), shapes[2..].to_vec())];
        options.build_groups(groups).unwrap()
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut first = make();
    let restored = checkpoint::load(folder.join("v1.safetensors"), &mut first).unwrap();
    assert_eq!(restored, Restored { new_parameters: vec!["later".to_owned()], ..Restored::default() });
    let estimate = first.estimate(0).unwrap();
    assert_eq!((first.steps(0).unwrap(), estimate.numerator), (7, 2.330910503052366e-9));
    assert_eq!(first.snapshot().tensors["layer/w"].updates, 7);
    for later in ["v2.safetensors", "v3.safetensors", "v4.safetensors"] {
        let mut second = make();
        let restored = checkpoint::load(folder.join(later), &mut second).unwrap();
        assert_eq!(restored.new_parameters, ["later"]);
        assert_eq!(second.snapshot(), first.snapshot(), "{later}");
    }
    // What is named in later versions only is known of those only.
    let other_beta1 = options.clone().betas((0.8, 0.99));
    let said = [("v1.safetensors", 0), ("v2.safetensors", 1), ("v3.safetensors", 1), ("v4.safetensors", 1)];
    for (name, said) in said {
        let groups = [(other_beta1.clone(), shapes[..2].to_vec()), (speedy.clone(), shapes[2..].to_vec())];
        let mut other: Optimizer = options.build_groups(groups).unwrap();
        let result = checkpoint::load(folder.join(name), &mut other);
        assert_eq!(usize::from(result.is_err()), said, "{name}: {result:?}");
    }
}

/// A file of version 2 or 1, when estimators sampled every 11th element whatever the shape.
fn of_a_time_before(version: u64, optimizer: &Optimizer) -> Vec<u8> {
    let mut parts = parts::parts_of(optimizer);
    let mut chains = Vec::new();
    for group in parts.header["groups"].as_array_mut().unwrap() {
        let state = group["state"].as_object_mut().unwrap();
        let transforms = state.remove("transforms").unwrap();
        state.remove("averaging");
        state.remove("parameters");
        let names = transforms.as_array().unwrap().iter().map(|text| text.as_str().unwrap());
        chains.push(names.collect::<Vec<_>>().join(" | "));
        match version {
            1 => *group = group["state"].clone(),
            _ => group["transforms"] = transforms,
        }
    }
    if version == 1 {
        parts.header["chains"] = chains.into();
        parts.header.as_object_mut().unwrap().remove("evaluating");
    }
    // No array was joined with others, and every parameter was described by itself.
    parts.header.as_object_mut().unwrap().remove("kinds");
    parts.arrays.clear();
    for (name, tensor) in optimizer.snapshot().tensors {
        let keys: Vec<&String> = tensor.arrays.keys().collect();
        parts.header["parameters"][&name] = serde_json::json!({
            "shape": tensor.shape, "dtype": tensor.dtype, "updates": tensor.updates, "arrays": keys,
        });
        for (key, buffer) in &tensor.arrays {
            let bytes = (0..buffer.len()).flat_map(|i| buffer.get::<f32>(i).to_le_bytes()).collect();
            parts.arrays.push((format!("{name}/{key}"), safetensors::Dtype::F32, vec![buffer.len()], bytes));
        }
    }
    parts::assembled_as(version, parts)
}

#[test]
fn samples_of_the_first_formats_begin_anew_where_the_shape_has_other_elements_looked_at_now() {
    // Of the second, both strides have two samples.
    let shapes: [(&str, &[usize]); 4] =
        [("wide", &[40, 33]), ("small", &[2, 11]), ("narrow", &[40, 32]), ("vector", &[33])];
    for use_speed in [false, true] {
        let options = ProdigyPlus::builder().use_speed(use_speed).d0(1e-3);
        let mut in_step = options.clone();
        in_step.compat.samples_keep_step_with_shape = true;
        let mut earlier = in_step.build(shapes).unwrap();
        let mut values = shapes.map(|(_, shape)| vec![0.5_f32; shape.iter().product()]);
        for _ in 0..5 {
            let gradients = values.clone();
            let pairs = values.iter_mut().zip(&gradients);
            let mut all: Vec<_> = pairs.map(|(w, g)| Parameter::slice(w, Some(g))).collect();
            earlier.step(&mut all).unwrap();
        }
        let estimate = earlier.estimate(0).unwrap();
        assert!(estimate.d > 1e-3 && estimate.numerator > 0.0, "{estimate:?}");
        for version in [1, 2] {
            let mut present = options.build(shapes).unwrap();
            let restored = from_bytes(&of_a_time_before(version, &earlier), &mut present).unwrap();
            let name = if use_speed { "speed" } else { "prodigy" };
            let missing = ["wide", "small"].map(|of| ["p0", "s"].map(|array| format!("{of}/{name}/{array}")));
            assert_eq!(restored.missing, missing.concat(), "version {version}");
            let now = present.estimate(0).unwrap();
            assert_eq!((now.d, now.numerator, now.denominator), (estimate.d, 0.0, 0.0));
            let (before, after) = (earlier.snapshot().tensors, present.snapshot().tensors);
            for kept in ["narrow", "vector"] {
                assert_eq!(before[kept].arrays, after[kept].arrays, "version {version}");
            }
        }
    }
}

#[test]
fn the_header_can_be_read_by_people() {
    let (optimizer, ..) = trained();
    let bytes = to_bytes(&optimizer).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut header: serde_json::Value =
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["checkpoint"]).unwrap();
    let state = &mut header["groups"][0]["state"];
    for numbers in ["estimate", "scalars"] {
        for number in state[numbers].as_object_mut().unwrap().values_mut() {
            *number = format!("{:.3e}", number.as_f64().unwrap()).into();
        }
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&header).unwrap());
    let names = metadata.offset_keys();
    assert_eq!(
        names,
        [
            "joined/f32/factored-moment/v",
            "joined/f32/prodigy/p0",
            "joined/f32/prodigy/s",
            "joined/f32/schedule-free/z",
            "joined/bf16/factored-moment/v",
            "joined/bf16/prodigy/p0",
            "joined/bf16/schedule-free/z",
        ]
    );
}

#[test]
fn long_arrays_have_names_of_their_own_and_short_ones_are_joined() {
    let shapes = [("long", &[1024][..]), ("short", &[1023]), ("a", &[3])];
    let make = || -> Optimizer { Options::default().build(shapes).unwrap() };
    let mut optimizer = make();
    let mut values = shapes.map(|(_, shape)| vec![0.5_f32; shape[0]]);
    let mut parameters: Vec<Parameter<'_>> = Vec::new();
    let gradients = values.clone();
    for (value, gradient) in values.iter_mut().zip(&gradients) {
        parameters.push(Parameter::slice(value, Some(gradient)));
    }
    optimizer.step(&mut parameters).unwrap();
    let bytes = to_bytes(&optimizer).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = metadata.tensors();
    assert_eq!(tensors["long/schedule-free/z"].shape, [1024]);
    // By the parameters' names: that of `a`, and then that of `short`.
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let joined = file.tensor("joined/f32/schedule-free/z").unwrap();
    assert_eq!(joined.shape(), [3 + 1023]);
    let expected = &optimizer.snapshot().tensors["a"].arrays["schedule-free/z"];
    for (index, element) in joined.data().as_chunks().0[..3].iter().enumerate() {
        assert_eq!(f32::from_le_bytes(*element), expected.get::<f32>(index));
    }
    let mut read = make();
    from_bytes(&bytes, &mut read).unwrap();
    assert_eq!(read.snapshot(), optimizer.snapshot());
    // y goes the same ways.
    optimizer.eval(&mut parameters).unwrap();
    let mut read = make();
    from_bytes(&to_bytes(&optimizer).unwrap(), &mut read).unwrap();
    assert!(read.is_evaluating());
    assert_eq!(read.snapshot(), optimizer.snapshot());
}

/// Keeps arrays and does nothing.
#[derive(Debug)]
struct Keeps {
    transform: &'static str,
    arrays: &'static [&'static str],
    len: usize,
}

impl Link<f32> for Keeps {
    fn name(&self) -> &str {
        self.transform
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        self.arrays
            .iter()
            .fold(StateSpec::new(), |spec, array| spec.vector(array, self.len, Storage::Compute))
    }
}

#[test]
fn names_that_a_file_cannot_tell_apart_are_an_error_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    // The first parameter with the second array is called as the second one with the first array, where arrays have names of their
    // own; and the last array as the training point.
    let keeps = |arrays, len| Keeps { transform: "keeps", arrays, len };
    let cases = [
        (["w", "w/keeps/a"], keeps(&["b", "a/keeps/b"], 1024), None),
        (["w", "w/keeps/a"], keeps(&["b", "a/keeps/b"], 1023), Some(())),
        (["w", "w/keeps/a"], keeps(&["b"], 1024), Some(())),
        (["w", "b"], Keeps { transform: "optimizer", arrays: &["y"], len: 1 }, None),
    ];
    for (names, keeps, can_be_saved) in cases {
        let case = format!("{names:?} {keeps:?}");
        let mut optimizer: Optimizer =
            Optimizer::new((keeps, Descent::default()), names.map(|name| (name, &[1][..]))).unwrap();
        let (mut w, mut b) = ([1.0_f32], [1.0_f32]);
        let parameters =
            &mut [Parameter::slice(&mut w, Some(&[0.1])), Parameter::slice(&mut b, Some(&[0.1]))];
        optimizer.step(parameters).unwrap();
        let saved = checkpoint::save(&path, &optimizer);
        match can_be_saved {
            Some(()) => assert!(saved.is_ok() && std::fs::remove_file(&path).is_ok(), "{case}"),
            None => {
                assert!(matches!(saved, Err(Error::OneName { .. })) && !path.exists(), "{case}: {saved:?}")
            }
        }
    }
}
