//! Records of whole chains, compared with plain vectors that links in between write down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use gradient_transform::{
    Context, Descent, Link, Optimizer, Parameter, ParameterGroup, Real, Record, Recorder, Role, Scalar,
    Settings, Sums, TensorInfo, Tile, only_for,
};
use half::bf16;
use muon_pp::Muon;
use orthograd::OrthoGrad;
use prodigy_plus::{Options, ProdigyPlus};
use serde_json::json;

type Chain<T> = Vec<Box<dyn Link<T>>>;

/// Updates by tensor and place in the chain.
type Notes = Arc<Mutex<BTreeMap<(String, usize), Vec<f64>>>>;

/// Writes the update down, and hands it on.
#[derive(Debug)]
struct Note {
    name: String,
    place: usize,
    behind_writer: bool,
    notes: Notes,
}

impl<T: Real> Link<T> for Note {
    fn name(&self) -> &str {
        &self.name
    }

    fn changes_displacement(&self) -> bool {
        self.behind_writer
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        let mut notes = self.notes.lock().unwrap();
        let all = notes.entry((cx.tensor.name.clone(), self.place)).or_default();
        all.resize(cx.tensor.len(), f64::NAN);
        let values = tile.update.values().iter().map(|u| u.f64());
        all[tile.offset..][..tile.gradient.len()].iter_mut().zip(values).for_each(|(to, u)| *to = u);
    }
}

/// The chain with a note after every link, and the names of its links.
fn noted<T: Real>(chain: Chain<T>, notes: &Notes) -> (Chain<T>, Vec<String>) {
    let tensor = TensorInfo { name: String::new(), shape: vec![40, 33], dtype: T::DTYPE, updates: 1 };
    let mut behind_writer = false;
    let (mut made, mut names): (Chain<T>, Vec<String>) = (Vec::new(), Vec::new());
    for (place, link) in chain.into_iter().enumerate() {
        names.push(link.name().to_owned());
        // A box has no role of its own.
        let inner: &dyn Link<T> = &*link;
        behind_writer |= inner.role(&tensor) == Role::Writer;
        made.push(link);
        let notes = Arc::clone(notes);
        made.push(Box::new(Note { name: format!("note-{place}"), place, behind_writer, notes }));
    }
    (made, names)
}

const SHAPES: [&[usize]; 6] = [&[40, 33], &[7], &[64, 3, 3], &[0], &[], &[1100]];

fn number(t: usize, tensor: usize, i: usize) -> f64 {
    ((i * (2 * tensor + 3) + 17 * t) as f64 * 0.37 + tensor as f64).sin() * 0.1 + 0.003 * (i % 5) as f64
}

fn optimizer<T: Real>(chain: Chain<T>) -> Optimizer<T> {
    let named = SHAPES.iter().enumerate().map(|(i, shape)| (i.to_string(), *shape));
    Optimizer::new_in(chain, named).unwrap()
}

fn tensors<E>(t: usize, of: fn(f64) -> E) -> Vec<Vec<E>> {
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    SHAPES
        .iter()
        .enumerate()
        .map(|(tensor, shape)| (0..size(shape)).map(|i| of(number(t, tensor, i))).collect())
        .collect()
}

fn step<T: Real, E: Scalar>(optimizer: &mut Optimizer<T>, values: &mut [Vec<E>], gradients: &[Vec<E>]) {
    let parameters = values.iter_mut().zip(gradients);
    let mut parameters: Vec<_> = parameters.map(|(w, g)| Parameter::slice(w, Some(g))).collect();
    optimizer.step(&mut parameters).unwrap();
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[track_caller]
fn assert_close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-4 * expected.abs() + 1e-30, "{what}: {found:e}, {expected:e}");
}

/// Record of a tensor, against the vectors.
fn check_tensor(
    what: &str,
    record: &Record,
    tensor: usize,
    names: &[String],
    gradient: &[f64],
    notes: &BTreeMap<(String, usize), Vec<f64>>,
) {
    let found = record.tensors.iter().find(|found| found.name == tensor.to_string()).unwrap();
    assert_close(what, found.norms.gradient, norm(gradient));
    // A tensor without elements has no tiles to write down.
    let empty = Vec::new();
    let mut before = gradient;
    for link in &found.links {
        let what = format!("{what}, `{}` of tensor {tensor}", link.link);
        let place = names.iter().position(|name| *name == link.link).unwrap();
        let after = notes.get(&(found.name.clone(), place)).unwrap_or(&empty);
        assert_eq!(after.len(), gradient.len(), "{what}");
        assert_close(&what, link.before, norm(before));
        assert_close(&what, link.after, norm(after));
        let products: f64 = before.iter().zip(after).map(|(a, b)| a * b).sum();
        let cosine = products / (norm(before) * norm(after));
        match link.cosine {
            Some(found) => assert!((found - cosine).abs() < 1e-4, "{what}: {found} {cosine}"),
            None => assert!(!cosine.is_finite(), "{what}: {cosine}"),
        }
        let changed = before.iter().zip(after).filter(|(a, b)| a != b).count();
        assert_eq!(link.changed, changed as f64 / after.len().max(1) as f64, "{what}");
        before = after;
    }
}

/// Steps a chain with a recorder, the same with notes between its links, and the same without a recorder, side by side.
fn check<T: Real, E: Scalar + Into<f64>>(what: &str, chain: impl Fn() -> Chain<T>, of: fn(f64) -> E) {
    let notes = Notes::default();
    let (with_notes, names) = noted(chain(), &notes);
    let (mut plain, mut recorded, mut noted) =
        (optimizer(chain()), optimizer(chain()), optimizer(with_notes));
    recorded.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut values = [tensors(0, of), tensors(0, of), tensors(0, of)];
    let doubles = |values: &[Vec<E>]| {
        values.iter().map(|v| v.iter().map(|x| (*x).into()).collect()).collect::<Vec<Vec<f64>>>()
    };
    for t in 1..=4 {
        let gradients = tensors(t, of);
        let start = doubles(&values[1]);
        notes.lock().unwrap().clear();
        for (optimizer, values) in [&mut plain, &mut recorded, &mut noted].into_iter().zip(&mut values) {
            step(optimizer, values, &gradients);
        }
        let [plain_end, end, noted_end] = values.each_ref().map(|values| doubles(values));
        assert_eq!(end, plain_end, "{what}: with and without a recorder");
        assert_eq!(end, noted_end, "{what}: with and without notes");
        let record = recorded.recorder().unwrap().latest().unwrap();
        assert_eq!((record.step, record.tensors.len()), (t as u64, SHAPES.len()), "{what}");
        assert!(record.not_finite.is_none(), "{what}: {:?}", record.not_finite);
        for (tensor, gradient) in doubles(&gradients).iter().enumerate() {
            check_tensor(what, record, tensor, &names, gradient, &notes.lock().unwrap());
            let found = &record.tensors[tensor];
            let displacement: Vec<f64> =
                start[tensor].iter().zip(&end[tensor]).map(|(start, end)| start - end).collect();
            assert_close(what, found.norms.parameter, norm(&start[tensor]));
            assert_close(what, found.norms.displacement, norm(&displacement));
            let moved = displacement.iter().filter(|x| **x != 0.0).count();
            assert_eq!(found.moved, moved as f64 / displacement.len().max(1) as f64, "{what}");
        }
    }
    assert_eq!(recorded.snapshot(), plain.snapshot(), "{what}");
}

fn in_every_type(what: &str, options: &Options) {
    check::<f32, f32>(&format!("{what} in float32"), || options.transforms().unwrap(), |x| x as f32);
    check::<f32, bf16>(&format!("{what} in bfloat16"), || options.transforms().unwrap(), bf16::from_f64);
    check::<f64, f64>(&format!("{what} in float64"), || options.transforms().unwrap(), |x| x);
}

#[test]
fn records_of_every_option_are_those_of_vectors_written_down_between_the_links() {
    for options in [
        json!({}),
        json!({"factored": false, "weight_decay": 0.1}),
        json!({"use_adopt": true, "use_orthograd": true}),
        json!({"use_cautious": true, "eps": null}),
        json!({"use_grams": true, "use_bias_correction": true, "weight_decay": 0.1, "weight_decay_by_lr": false}),
        json!({"use_focus": true}),
        json!({"use_speed": true, "use_stableadamw": false}),
        json!({"use_muon_pp": true}),
        json!({"line": "2.0.1", "use_orthograd": true, "use_cautious": true}),
        json!({"line": "2.0.1", "use_schedulefree": false, "use_adopt": true, "use_grams": true}),
    ] {
        let d0 = json!(1e-3);
        let mut with_d0 = options.clone();
        with_d0["d0"] = d0;
        in_every_type(&options.to_string(), &serde_json::from_value(with_d0).unwrap());
    }
}

#[test]
fn wrappers_and_whole_matrices_are_recorded_where_they_apply() {
    let chain = || -> Chain<f32> {
        vec![
            Box::new(only_for(|tensor: &TensorInfo| tensor.shape.len() >= 2, Muon::default())),
            Box::new(only_for(|tensor: &TensorInfo| tensor.shape.len() < 2, OrthoGrad::default())),
            Box::new(Descent::default()),
        ]
    };
    check("masks", chain, |x| x as f32);
    let mut optimizer = optimizer(chain());
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut values = tensors(0, |x| x as f32);
    step(&mut optimizer, &mut values, &tensors(1, |x| x as f32));
    let record = optimizer.recorder().unwrap().latest().unwrap();
    let names = |tensor: usize| -> Vec<&str> {
        record.tensors[tensor].links.iter().map(|link| link.link.as_str()).collect()
    };
    assert_eq!((names(0), names(1)), (vec!["muon", "descent"], vec!["orthograd", "descent"]));
}

/// Two groups, of which the second one's tensor is longer than a chunk, with the fused loops of `prodigy-plus`.
fn groups<E: Scalar>(every: Option<u64>, threads: usize, of: fn(f64) -> E) -> (Vec<E>, String) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let base = ProdigyPlus::builder().d0(1e-3);
    let size = (1 << 19) + 3000;
    let made: [ParameterGroup; 2] = [
        base.group(base.clone(), [("a", [30, 40])]).unwrap(),
        base.group(base.clone().weight_decay(0.1), [("b", [size])]).unwrap(),
    ];
    let mut optimizer = Optimizer::with_groups(made, Settings::default()).unwrap();
    optimizer.set_recorder(every.map(|every| Recorder::every(every).unwrap()));
    let make = |t, tensor, size| -> Vec<E> { (0..size).map(|i| of(number(t, tensor, i))).collect() };
    let (mut a, mut b) = (make(0, 0, 1200), make(0, 1, size));
    for t in 1..=3 {
        let (g, h) = (make(t, 0, 1200), make(t, 1, size));
        pool.install(|| {
            optimizer
                .step(&mut [Parameter::slice(&mut a, Some(&g)), Parameter::slice(&mut b, Some(&h))])
                .unwrap();
        });
    }
    a.extend(b);
    // Debug prints every digit of a float64.
    let text = format!("{:?} {:?}", optimizer.set_recorder(None), optimizer.snapshot().groups);
    (a, text)
}

fn groups_and_threads<E: Scalar + PartialEq>(of: fn(f64) -> E) {
    let (values, one) = groups(Some(1), 1, of);
    for threads in 2..=8 {
        let (others, text) = groups(Some(1), threads, of);
        assert!(others == values && text == one, "{threads} threads");
    }
    for every in [None, Some(2)] {
        assert!(groups(every, 2, of).0 == values, "{every:?}");
    }
    let contributions = one.matches("contribution: Some").count();
    assert_eq!(contributions, 6, "two groups in three steps");
}

#[test]
fn groups_with_fused_loops_have_the_same_bits_and_the_same_records_on_any_threads() {
    groups_and_threads::<f32>(|x| x as f32);
    groups_and_threads::<bf16>(bf16::from_f64);
}

#[test]
fn a_tensors_contributions_add_up_to_its_groups_and_move_its_estimate() {
    let options = ProdigyPlus::builder().d0(1e-3);
    let mut optimizer = optimizer::<f64>(options.transforms().unwrap());
    optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
    let mut values = tensors(0, |x| x);
    (1..=3).for_each(|_| step(&mut optimizer, &mut values, &tensors(1, |x| x)));
    for record in optimizer.recorder().unwrap().records() {
        let group = &record.groups[0];
        let sum = |i: usize| record.tensors.iter().map(|tensor| tensor.contribution[i]).sum::<f64>();
        assert_eq!(group.contribution, Some([sum(0), sum(1)]));
        let numerator = options.beta3_or_default() * group.before.numerator + sum(0).max(0.0);
        assert!((group.after.numerator - numerator).abs() <= 1e-12 * numerator.abs());
        assert_eq!((group.after.denominator, group.after.d_prev), (sum(1), group.before.d));
        assert_eq!(group.step_size, group.lr * group.before.d);
    }
}
