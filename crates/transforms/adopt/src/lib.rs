#![doc = include_str!("../README.md")]

mod clip;

pub use clip::AdoptClip;
use gradient_transform::{
    AlongState, Backend, Column, Context, Element, GradientTransform, Moment, Num, Real, Result, Storage,
    TensorInfo, kind, transform,
};
use serde::{Deserialize, Serialize};

/// Divides by a second moment before this step's gradient enters it.
///
/// ```text
/// u_k = g_k / (sqrt(v_{k-1}) + eps)
/// v_k = beta2 r^2 v_{k-1} + (1 - beta2) g_k^2,    v_1 = g_1^2
/// ```
///
/// The first gradient of a tensor only fills the moment: the tensor does not move, and the transforms after
/// this one do not run on it. The same holds if the moment joins a tensor that was trained without it.
///
/// Taniguchi et al., 2411.02853, Algorithm 1. As in the reference, without the paper's first moment and clipping.
///
/// The state is the moment's, under the moment's name, so it survives when ADOPT is switched on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adopt<M> {
    /// The moment.
    pub moment: M,
    /// Reference 1.9.2: the first step is the group's, so that a parameter whose first gradient comes later starts
    /// with an empty moment. Otherwise it is the tensor's first step with the moment.
    pub first_step_of_group: bool,
}

impl<M> Adopt<M> {
    /// ADOPT around a moment.
    pub fn new(moment: M) -> Self {
        Self { moment, first_step_of_group: false }
    }

    fn fills(&self, cx: &Context<'_>) -> bool {
        // A new moment of a trained tensor has to be filled in either case.
        if self.first_step_of_group { cx.step.k == 1 || cx.fill } else { cx.fresh }
    }

    /// The context in which the moment accumulates.
    fn filling<'a>(&self, cx: &Context<'a>) -> Context<'a> {
        Context { fill: self.fills(cx), ..*cx }
    }
}

#[transform]
impl<M: Moment> GradientTransform for Adopt<M> {
    type State<V: Copy> = M::State<V>;
    type Scalars<V: Copy> = M::Scalars<V>;
    type Along<V: Copy> = M::Along<V>;
    type Kind = kind::Lagged;

    fn name(&self) -> &str {
        self.moment.name()
    }

    fn validate(&self) -> Result<()> {
        self.moment.validate()
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        self.moment.excludes()
    }

    fn columns(&self, tensor: &TensorInfo) -> M::State<Column> {
        self.moment.columns(tensor)
    }

    fn along(&self, tensor: &TensorInfo) -> Option<M::Along<usize>> {
        self.moment.along(tensor)
    }

    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        self.moment.vectors(tensor)
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        self.fills(cx)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut M::Scalars<f64>) {
        self.moment.begin(&self.filling(cx), scalars);
    }

    fn begin_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        scalars: &mut M::Scalars<f64>,
    ) {
        self.moment.prepare(cx, along, scalars);
    }

    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> M::Along<Num<B>> {
        self.moment.measure_along(e)
    }

    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        _scalars: &mut M::Scalars<f64>,
    ) {
        self.moment.advance(&self.filling(cx), along);
    }

    fn variant(&self, cx: &Context<'_>, scalars: &M::Scalars<f64>) -> u32 {
        self.moment.variant(cx, scalars)
    }

    fn variants(&self) -> u32 {
        self.moment.variants()
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let mut divided = *e;
        self.moment.divide(&mut divided);
        self.moment.accumulate(e);
        e.update = divided.update;
    }
}
