//! Options of all transforms: defaults are valid, files are read back, unknown names and wrong values are refused.

use elementary::*;
use gradient_transform::{
    Backend, Descent, Element, Error, GradientTransform, Optimizer, Parameter, SumsOver, TensorInfo, fields,
    transform,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn reads_back<G>()
where
    G: GradientTransform + Default + Serialize + DeserializeOwned + PartialEq,
{
    let it = G::default();
    it.validate().unwrap();
    let text = serde_json::to_string(&it).unwrap();
    assert!(serde_json::from_str::<G>(&text).unwrap() == it, "{text}");
    if text != "null" {
        assert!(serde_json::from_str::<G>("{}").unwrap() == it, "{text}: options have defaults");
        let error = serde_json::from_str::<G>(r#"{"betta":0.5}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `betta`"), "{error}");
    }
}

#[test]
fn options_are_read_back_and_unknown_ones_refused() {
    reads_back::<AdEMAMix>();
    reads_back::<AdaBelief>();
    reads_back::<AdaDelta>();
    reads_back::<AdaGrad>();
    reads_back::<AdaMax>();
    reads_back::<Adam>();
    reads_back::<AdamMoment>();
    reads_back::<Adan>();
    reads_back::<AdaptiveClip>();
    reads_back::<AmsGrad>();
    reads_back::<Centralise>();
    reads_back::<CentredRms>();
    reads_back::<ClipByNorm>();
    reads_back::<ClipByValue>();
    reads_back::<DecayToStart>();
    reads_back::<DistanceOverGradients>();
    reads_back::<Ema>();
    reads_back::<GradientNoise>();
    reads_back::<Lion>();
    reads_back::<Sophia>();
    reads_back::<Lookahead>();
    reads_back::<Mars>();
    reads_back::<Momentum>();
    reads_back::<NAdam>();
    reads_back::<NovoGrad>();
    reads_back::<Optimistic>();
    reads_back::<ParameterScale>();
    reads_back::<Polyak>();
    reads_back::<ReduceOnPlateau>();
    reads_back::<RAdam>();
    reads_back::<Rprop>();
    reads_back::<Sign>();
    reads_back::<TrustRatio>();
    reads_back::<UnitNorm>();
    reads_back::<WeightAverage>();
    reads_back::<WeightDecay>();
    reads_back::<Yogi>();
}

/// The option that an error names, for a transform that is refused.
fn refused<G: GradientTransform>(it: G) -> &'static str {
    match it.validate() {
        Err(Error::OptionOutOfRange { option, .. }) => option,
        other => panic!("{it:?}: {other:?}"),
    }
}

#[test]
fn options_out_of_range_are_named() {
    let nan = f64::NAN;
    assert_eq!(refused(Momentum { beta: 1.0, ..Momentum::default() }), "beta");
    assert_eq!(refused(Ema { beta: -0.1, ..Ema::default() }), "beta");
    assert_eq!(refused(Adam { beta1: 1.0, ..Adam::default() }), "beta1");
    assert_eq!(refused(Adam { beta2: nan, ..Adam::default() }), "beta2");
    assert_eq!(refused(Adam { eps: 0.0, ..Adam::default() }), "eps");
    assert_eq!(refused(RAdam { threshold: 3.0, ..RAdam::default() }), "threshold");
    assert_eq!(refused(NAdam { momentum_decay: -1.0, ..NAdam::default() }), "momentum_decay");
    assert_eq!(refused(AdEMAMix { beta1: 0.0, ..AdEMAMix::default() }), "beta1");
    assert_eq!(refused(AdEMAMix { alpha: nan, ..AdEMAMix::default() }), "alpha");
    assert_eq!(refused(AdaGrad { initial: -1.0, ..AdaGrad::default() }), "initial");
    assert_eq!(refused(Rprop { largest: 1e-9, ..Rprop::default() }), "largest");
    assert_eq!(refused(Rprop { grow: 1.0, ..Rprop::default() }), "grow");
    assert_eq!(refused(Mars { beta1: 1.0, ..Mars::default() }), "beta1");
    assert_eq!(refused(Optimistic { beta: f64::INFINITY, ..Optimistic::default() }), "beta");
    assert_eq!(refused(WeightDecay { rate: -0.1, ..WeightDecay::default() }), "rate");
    assert_eq!(refused(ClipByNorm { limit: 0.0, ..ClipByNorm::default() }), "limit");
    let over_all = ClipByNorm { of: Size::RootMeanSquare, over: SumsOver::All, ..ClipByNorm::default() };
    assert_eq!(refused(over_all), "of");
    assert_eq!(refused(ClipByValue { growth: nan, ..ClipByValue::default() }), "growth");
    assert_eq!(refused(AdaptiveClip { eps: 0.0, ..AdaptiveClip::default() }), "eps");
    assert_eq!(refused(TrustRatio { eps: -1.0, ..TrustRatio::default() }), "eps");
    assert_eq!(refused(NovoGrad { decay: nan, ..NovoGrad::default() }), "decay");
    assert_eq!(
        refused(DistanceOverGradients { relative: 0.0, ..DistanceOverGradients::default() }),
        "relative"
    );
    assert_eq!(refused(GradientNoise { eta: -1.0, ..GradientNoise::default() }), "eta");
    assert_eq!(refused(Polyak { least: nan, ..Polyak::default() }), "least");
    assert_eq!(refused(ReduceOnPlateau { factor: 1.0, ..ReduceOnPlateau::default() }), "factor");
    assert_eq!(refused(ReduceOnPlateau { patience: 0, ..ReduceOnPlateau::default() }), "patience");
    assert_eq!(refused(ReduceOnPlateau { window: 0, ..ReduceOnPlateau::default() }), "window");
    assert_eq!(refused(ReduceOnPlateau { relative: 1.5, ..ReduceOnPlateau::default() }), "relative");
    assert_eq!(refused(WeightAverage { beta: 1.0, ..WeightAverage::default() }), "beta");
    assert_eq!(refused(Lookahead { period: 0, ..Lookahead::default() }), "period");
    assert_eq!(refused(Lookahead { alpha: 1.5, ..Lookahead::default() }), "alpha");
    let schedule = Schedule::constant(1.0).for_steps(3).then(Schedule::cosine(1.0, nan, 3));
    assert_eq!(refused(Scheduled { schedule }), "to");
    let schedule = Schedule::Product { of: vec![Schedule::InverseRoot { steps: 0 }] };
    assert_eq!(refused(Scheduled { schedule }), "steps");
}

#[test]
fn what_is_more_than_a_function_of_one_element_is_not_grafted() {
    let refused = |it: gradient_transform::Result<()>| {
        assert!(matches!(it, Err(Error::InvalidChain { .. })), "{it:?}");
    };
    refused(Graft { size: UnitNorm::default(), direction: Sign }.validate());
    refused(Graft { size: Sign, direction: Centralise }.validate());
    let wrong = Graft { size: Momentum { beta: 1.0, ..Momentum::default() }, direction: Sign };
    assert!(matches!(wrong.validate(), Err(Error::OptionOutOfRange { option: "beta", .. })));
}

/// Decay only for matrices is the identity for vectors, grafted or not.
#[test]
fn a_grafted_transform_is_the_identity_where_it_does_not_apply() {
    let decay = WeightDecay { rate: 1.0, least_rank: 2, ..WeightDecay::default() };
    let chain = (Graft { size: decay, direction: Sign }, Descent::default());
    let mut optimizer: Optimizer<f64> =
        Optimizer::new_in(chain, [("matrix", &[2, 1][..]), ("vector", &[2][..])]).unwrap();
    let (mut matrix, mut vector) = ([1.0, 1.0], [1.0, 1.0]);
    let mut parameters =
        [Parameter::slice(&mut matrix, Some(&[2.0, 3.0])), Parameter::slice(&mut vector, Some(&[3.0, -4.0]))];
    optimizer.step(&mut parameters).unwrap();
    // Of the matrix |g + w| = |(3, 4)|, of the vector |g| = 5; along signs, whose length is the root of 2.
    let step = 5.0 / 2.0_f64.sqrt();
    for (got, expected) in matrix.iter().chain(&vector).zip([1.0 - step, 1.0 - step, 1.0 - step, 1.0 + step])
    {
        assert!((got - expected).abs() < 1e-12, "{got} {expected}");
    }
}

/// Momentum only for matrices.
#[derive(Clone, Debug)]
struct MatrixMomentum;

#[fields]
struct Sum<V> {
    m: V,
}

#[transform("matrix-momentum")]
impl GradientTransform for MatrixMomentum {
    type State<V: Copy> = Sum<V>;

    fn applies(&self, tensor: &TensorInfo) -> bool {
        tensor.shape.len() >= 2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = 0.5 * e.state.m + e.update;
        e.update = e.state.m;
    }
}

#[test]
fn nothing_is_kept_of_a_tensor_to_which_a_grafted_transform_does_not_apply() {
    let chain = (Graft { size: MatrixMomentum, direction: AdamMoment::default() }, Descent::default());
    let mut optimizer = Optimizer::new(chain, [("vector", [2])]).unwrap();
    let mut vector = [1.0_f32, 1.0];
    optimizer.step(&mut [Parameter::slice(&mut vector, Some(&[3.0, -4.0]))]).unwrap();
    assert!(optimizer.snapshot().tensors["vector"].arrays.keys().eq(["graft/direction.v"]));
    let neither = (Graft { size: MatrixMomentum, direction: MatrixMomentum }, Descent::default());
    let mut optimizer = Optimizer::new(neither, [("vector", [2])]).unwrap();
    let mut vector = [1.0_f32, 1.0];
    optimizer.step(&mut [Parameter::slice(&mut vector, Some(&[3.0, -4.0]))]).unwrap();
    assert_eq!(vector, [-2.0, 5.0]);
    assert!(optimizer.snapshot().tensors["vector"].arrays.is_empty());
}

/// A tensor of one element with the gradient 1 in every step; `late` comes into its chain after ten.
fn joining<G: GradientTransform>(late: G) -> f64 {
    let shapes = [("w", &[1][..])];
    let mut optimizer: Optimizer<f64> = Optimizer::new_in(Descent::default(), shapes).unwrap();
    let mut w = [0.0];
    for _ in 0..10 {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).unwrap();
    }
    optimizer.replace_chain(0, (late, Descent::default())).unwrap();
    let before = w[0];
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).unwrap();
    before - w[0]
}

#[test]
fn averages_that_come_late_begin_with_the_first_gradient_they_see() {
    let near = |way: f64, expected: f64| assert!((way - expected).abs() < 1e-6, "{way} {expected}");
    near(joining(Ema::default()), 1.0);
    near(joining(Ema { debias: false, ..Ema::default() }), 0.1);
    near(joining(Adam::default()), 1.0);
    near(
        joining(Adam { nesterov: true, ..Adam::default() }),
        0.9 * (1.0 - 0.9_f64.powi(11)) / (1.0 - 0.9_f64.powi(12)) + 0.1 / (1.0 - 0.9_f64.powi(11)),
    );
    near(joining(AdamMoment::default()), 1.0);
    near(joining(AmsGrad::default()), 1.0);
    near(joining(AdaBelief::default()), 1.0 / 0.9);
    near(joining(AdaMax::default()), 1.0);
    near(joining(AdEMAMix::default()), 1.0 + 5.0 * 1e-4);
    near(joining(Adan::default()), 1.0);
    near(joining(CentredRms::default()), 1.0 / (1.0 - 0.01_f64.powi(2)).sqrt());
    near(joining(Mars::default()), 1.0);
    near(joining(Yogi { eps: 1e-9, ..Yogi::default() }), 1.0);
    near(joining(Rprop::default()), 0.01);
    near(joining(DecayToStart::default()), 1.0);
}
