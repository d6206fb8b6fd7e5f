//! One step of one parameter: from its gradient to an update, in the order in which the options act.

use ndarray::ArrayD;

use super::compat::Compat;
use super::moment::{self, Moment};
use super::muon::{self, MuonScale};
use super::options::Options;
use super::prodigy::{Sample, Sums};
use super::second::Way;
use super::storage::{self, Storage};
use super::{GroupState, schedule_free};

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) y: ArrayD<f64>,
    /// From the first gradient on.
    pub(super) state: Option<State>,
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) z: ArrayD<f64>,
    pub(super) preconditioner: Preconditioner,
    pub(super) sample: Sample,
    /// 2.0.1 without Schedule-Free: an EMA of `d g`.
    pub(super) first_moment: ArrayD<f64>,
    /// 2.0.1 with SPEED.
    pub(super) way: Option<Way>,
}

#[derive(Debug, Clone)]
pub(super) enum Preconditioner {
    Moment(Box<Moment>),
    Muon(MuonScale),
}

/// What is the same for all parameters of a group in one step.
pub(super) struct Step<'a> {
    pub(super) options: &'a Options,
    pub(super) compat: &'a Compat,
    pub(super) storage: Storage,
    pub(super) muon_bf16: bool,
    pub(super) k: u64,
    /// The same without the steps at learning rate 0 before this one.
    pub(super) moves: u64,
    pub(super) d: f64,
    pub(super) d_prev: f64,
    /// The step size: lr times d, times the rectifier.
    pub(super) dlr: f64,
    /// Debiased, if `use_bias_correction`.
    pub(super) beta2: f64,
    /// While so, the direction is the raw gradient.
    pub(super) rectifier_is_zero: bool,
    /// Before this step.
    pub(super) weight_sum: f64,
    /// Whether gradients count in the estimate of d.
    pub(super) learns: bool,
}

impl Step<'_> {
    /// StableAdamW's threshold, and Adam-atan2's scale: out of the way until `d` starts to move.
    pub(super) fn clip_threshold(&self) -> f64 {
        if !self.options.use_speed && self.d <= self.options.d0 { 50.0 } else { 1.0 }
    }

    pub(super) fn estimates_d(&self) -> bool {
        self.options.prodigy_steps == 0 || self.moves < self.options.prodigy_steps
    }
}

/// What a group's parameters share in the step to come, with step size `dlr` before RAdam's rectifier.
pub(super) fn step_of<'a>(
    group: &'a GroupState,
    compat: &'a Compat,
    storage: Storage,
    muon_bf16: bool,
    mut dlr: f64,
    learns: bool,
) -> Step<'a> {
    let mut beta2 = group.options.betas.1;
    let mut rectifier_is_zero = false;
    if group.options.use_bias_correction {
        let k = group.k as f64;
        let beta2_k = beta2.powf(k);
        let rho_inf = 2.0 / (1.0 - beta2) - 1.0;
        let rho = rho_inf - 2.0 * k * beta2_k / (1.0 - beta2_k);
        let rectifier = if rho > 4.0 {
            ((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)).sqrt()
        } else {
            0.0
        };
        rectifier_is_zero = rho <= 4.0;
        dlr *= rectifier;
        beta2 = 1.0 - (1.0 - beta2) / (1.0 - beta2_k);
    }
    Step {
        options: &group.options,
        compat,
        storage,
        muon_bf16,
        k: group.k,
        moves: group.moves,
        learns,
        d: group.d,
        d_prev: group.d_prev,
        dlr,
        beta2,
        rectifier_is_zero,
        weight_sum: group.weight_sum,
    }
}

/// One parameter's step; says whether it was updated, which ADOPT's first step does not do.
pub(super) fn step_parameter(
    parameter: &mut Parameter,
    raw_g: &ArrayD<f64>,
    step: &Step,
    sums: &mut Sums,
) -> bool {
    let options = step.options;
    sums.gradients = true;
    let y = &mut parameter.y;
    let first_gradient = parameter.state.is_none();
    let state = parameter.state.get_or_insert_with(|| State::at(y, step));

    let g = if options.use_orthograd {
        moment::orthogonal_to(&state.z, raw_g, step.storage, step)
    } else {
        raw_g.clone()
    };

    let r = step.d_prev / step.d;
    let weights = |beta2: f64| [beta2 * r * r, 1.0 - beta2];
    let mut update = match &mut state.preconditioner {
        Preconditioner::Muon(scale) => muon::direction(&g, scale, step.beta2, step),
        Preconditioner::Moment(moment) => {
            let first_step = if step.compat.first_step_of_group { step.k == 1 } else { first_gradient };
            if options.use_adopt && first_step {
                moment.update(&g, y, weights(0.0), step);
                return false;
            }
            let denominator = if options.use_adopt {
                let before = moment.denominator(step);
                moment.update(&g, y, weights(step.beta2), step);
                before
            } else {
                moment.update(&g, y, weights(step.beta2), step);
                moment.denominator(step)
            };
            if step.rectifier_is_zero { g } else { moment.direction(&g, denominator, y, step) }
        }
    };

    if options.use_stableadamw {
        let excess = storage::rms(&update) / step.clip_threshold();
        update = step.storage.arithmetic().store(update / excess.max(1.0));
    }

    if step.estimates_d() && step.learns {
        let weight = step.d.sqrt() * if options.use_speed { options.d0 } else { 1.0 };
        state.sample.observe(raw_g, y, weight, step, sums);
    }

    schedule_free::descend(y, &mut state.z, update, step);
    *y = step.storage.store(std::mem::take(y));
    state.z = step.storage.store(std::mem::take(&mut state.z));
    true
}

impl State {
    /// The state of a parameter that sees its first gradient.
    pub(super) fn at(y: &ArrayD<f64>, step: &Step) -> State {
        let options = step.options;
        let preconditioner = if options.use_muon_pp && !options.use_focus && y.ndim() >= 2 {
            Preconditioner::Muon(if options.use_speed {
                MuonScale::First(None)
            } else {
                MuonScale::MeanSquare(0.0)
            })
        } else {
            Preconditioner::Moment(Box::new(Moment::zeros(y.shape(), options.use_focus, options.factored)))
        };
        let first_moment = ArrayD::zeros(y.raw_dim());
        State { z: y.clone(), preconditioner, sample: Sample::at(y, step), first_moment, way: None }
    }
}
