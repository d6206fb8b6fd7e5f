#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, Link, MomentLink, Reads, Real, Result, Role, StateSpec, StepContext, Sums, TILE, TensorInfo,
    TensorState, Tile,
};

/// Reads a moment's denominator before this step's gradient enters it.
///
/// ```text
/// u_k = g_k / (sqrt(v_{k-1}) + eps)
/// v_k = beta2 r^2 v_{k-1} + (1 - beta2) g_k^2,    v_1 = g_1^2
/// ```
///
/// The first gradient that the moment sees of a tensor only fills it: the tensor does not move, and the transforms behind this
/// one do not see that gradient. So it is too where the moment joins a tensor that was trained without it.
///
/// Taniguchi et al., 2411.02853, Algorithm 1. As in the reference, without the paper's first moment and clipping.
///
/// The state is the moment's own and goes by the moment's name, so it survives when ADOPT is switched on or off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adopt<M> {
    /// The moment.
    pub moment: M,
    /// Reference 1.9.2: the first step is the group's, so that a parameter whose first gradient comes later starts
    /// with an empty moment. Otherwise it is the first with a new moment of the tensor.
    pub first_step_of_group: bool,
}

impl<M> Adopt<M> {
    /// ADOPT around a moment.
    pub fn new(moment: M) -> Self {
        Self { moment, first_step_of_group: false }
    }

    fn fills(&self, cx: &Context<'_>) -> bool {
        // A moment that is new in a tensor that is not has to be filled in either case.
        if self.first_step_of_group { cx.step.k == 1 || cx.step.fill } else { cx.fresh }
    }

    /// The context in which the moment moves on.
    fn filling<'a>(&self, cx: &Context<'a>) -> Context<'a> {
        Context { step: StepContext { fill: self.fills(cx), ..cx.step }, ..*cx }
    }
}

impl<T: Real, M: MomentLink<T>> Link<T> for Adopt<M> {
    fn name(&self) -> &str {
        self.moment.name()
    }

    fn validate(&self) -> Result<()> {
        self.moment.validate()
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        self.moment.excludes()
    }

    /// A map, whatever the moment is: what it emits follows from earlier steps.
    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Map
    }

    fn reads(&self) -> Reads {
        self.moment.reads()
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        self.moment.applies(tensor)
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        self.moment.state(tensor)
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        self.fills(cx)
    }

    fn begin(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        self.moment.prepare(cx, state);
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        if self.fills(cx) {
            let Tile { update, parameter, columns, offset, .. } = tile;
            self.moment.accumulate(&self.filling(cx), update.values(), parameter, columns, *offset, sums);
        }
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        self.moment.divide(cx, tile);
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, mut sums: Sums<'_, T>) {
        let mut divide_then_accumulate = |gradient: &[T], tile: &mut Tile<'_, '_, T>| {
            self.moment.divide(cx, tile);
            self.moment.accumulate(cx, gradient, tile.parameter, tile.columns, tile.offset, sums.reborrow());
        };
        match tile.update.unwritten() {
            Some(gradient) => divide_then_accumulate(gradient, tile),
            None => {
                let mut copy = [T::zero(); TILE];
                let copy = &mut copy[..tile.update.len()];
                copy.copy_from_slice(tile.update.values());
                divide_then_accumulate(copy, tile);
            }
        }
    }

    fn commits_columns(&self) -> bool {
        true
    }

    fn finish(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        self.moment.advance(&self.filling(cx), state);
    }
}
