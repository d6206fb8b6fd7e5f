//! The whole optimizer, naively: float64, one pass per formula, every tensor on its own. Both lines of the reference; where 2.0.1 is
//! another optimizer than 1.9.2, its formulas are in `second.rs`.
//!
//! This is the text to read beside the formulas. It rounds only where the reference keeps a number in a narrower type,
//! and deviates from the documented behaviour only where a [`Compat`] switch says so.

mod compat;
mod moment;
mod muon;
mod options;
mod prodigy;
mod schedule_free;
mod second;
mod step;
mod storage;

use ndarray::ArrayD;
use serde_json::{Map, Value};

pub use compat::Compat;
pub use options::{Line, Options};
pub use storage::Storage;

use prodigy::Sums;
use step::{Parameter, step_of};

/// Why an oracle cannot be made, or cannot take a step.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// An option is unknown, or of the wrong type.
    #[error("{0}")]
    Options(#[from] serde_json::Error),
    /// A group has an option that belongs to the whole optimizer.
    #[error("{0} is an option of the whole optimizer, not of a group")]
    NotOfAGroup(&'static str),
    /// The other line of the reference has this option.
    #[error("{0} is an option of the other line of the reference")]
    OfTheOtherLine(&'static str),
    /// The evaluation point is `lerp(y, z, 1 - 1/beta1)`.
    #[error("beta1 = 0: there is no evaluation point, as it divides by beta1")]
    Beta1IsZero,
    /// A group names a parameter that does not exist, or that another group has.
    #[error("parameter {0} must exist and belong to one group")]
    Groups(usize),
    /// The gradients do not match the parameters.
    #[error("the gradients do not match the parameters in number or shape")]
    Gradients,
}

/// A parameter group: which parameters it holds, and the options in which it differs from the others.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Positions of its parameters.
    pub params: Vec<usize>,
    /// Its own options, by their documented names.
    pub overrides: Map<String, Value>,
}

/// The naive optimizer.
#[derive(Debug, Clone)]
pub struct Oracle {
    storage: Storage,
    compat: Compat,
    muon_bf16: bool,
    /// The constructor's options; each group has its own.
    options: Options,
    groups: Vec<GroupState>,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Clone)]
struct GroupState {
    params: Vec<usize>,
    options: Options,
    /// The group's own `lr` if it has one. A per-step factor multiplies this, not the constructor's.
    own_lr: f64,
    d: f64,
    d_prev: f64,
    numerator: f64,
    /// So far; 2.0.1's SPEED goes by it.
    largest_numerator: f64,
    k: u64,
    /// `k` without the steps at learning rate 0.
    moves: u64,
    weight_sum: f64,
    /// Whether it ever had a gradient at a learning rate above 0.
    had_gradient: bool,
    /// The learning rate of the present step.
    rate: f64,
}

impl Oracle {
    /// An optimizer over `init`, with the constructor's `options` under their documented names.
    pub fn new(
        options: &Map<String, Value>,
        groups: &[Group],
        init: Vec<ArrayD<f64>>,
        storage: Storage,
        compat: Compat,
        muon_bf16: bool,
    ) -> Result<Oracle, OracleError> {
        let options = Options::of_constructor(options)?;
        let mut seen = vec![false; init.len()];
        for &i in groups.iter().flat_map(|group| &group.params) {
            match seen.get_mut(i) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(OracleError::Groups(i)),
            }
        }
        let mut states: Vec<GroupState> = Vec::new();
        for group in groups {
            let own = options.of_group(&group.overrides)?;
            let d = match states.first() {
                _ if compat.group_d0_ignored => options.d0,
                Some(first) if !options.split_groups => first.d,
                _ => own.d0,
            };
            states.push(GroupState {
                params: group.params.clone(),
                own_lr: if group.overrides.contains_key("lr") { own.lr } else { 1.0 },
                options: own,
                d,
                d_prev: d,
                numerator: 0.0,
                largest_numerator: 0.0,
                k: 1,
                moves: 1,
                weight_sum: 0.0,
                had_gradient: false,
                rate: 0.0,
            });
        }
        let parameters = init.into_iter().map(|y| Parameter { y: storage.store(y), state: None }).collect();
        Ok(Oracle { storage, compat, muon_bf16, options, groups: states, parameters })
    }

    /// Adds a group of the parameters `init`, which come after those that are there.
    pub fn add_group(
        &mut self,
        overrides: &Map<String, Value>,
        init: Vec<ArrayD<f64>>,
    ) -> Result<(), OracleError> {
        let own = self.options.of_group(overrides)?;
        let from = self.parameters.len();
        let mut group = GroupState {
            params: (from..from + init.len()).collect(),
            own_lr: if overrides.contains_key("lr") { own.lr } else { 1.0 },
            d: own.d0,
            d_prev: own.d0,
            numerator: 0.0,
            largest_numerator: 0.0,
            k: 1,
            moves: 1,
            weight_sum: 0.0,
            had_gradient: false,
            rate: 0.0,
            options: own,
        };
        if let Some(first) = self.groups.first().filter(|_| !self.options.split_groups) {
            (group.d, group.d_prev) = (first.d, first.d_prev);
            (group.numerator, group.largest_numerator) = (first.numerator, first.largest_numerator);
        }
        self.groups.push(group);
        let storage = self.storage;
        self.parameters.extend(init.into_iter().map(|y| Parameter { y: storage.store(y), state: None }));
        Ok(())
    }

    /// One step. A parameter without a gradient stays as it is. `lr` is the schedule's factor: with one, a group's
    /// learning rate is the factor times the group's own `lr`, or times 1 if it has none of its own.
    pub fn step(&mut self, gradients: &[Option<ArrayD<f64>>], lr: Option<f64>) -> Result<(), OracleError> {
        let fits = |(gradient, parameter): (&Option<ArrayD<f64>>, &Parameter)| {
            gradient.as_ref().is_none_or(|g| g.shape() == parameter.y.shape())
        };
        if gradients.len() != self.parameters.len() || !gradients.iter().zip(&self.parameters).all(fits) {
            return Err(OracleError::Gradients);
        }

        for group in &mut self.groups {
            group.rate = lr.map_or(group.options.lr, |factor| factor * group.own_lr);
        }
        let step_ds = self.step_ds();
        let joint = !self.options.split_groups && self.groups.len() > 1;
        let mut sums = vec![Sums::default(); self.groups.len()];
        for ((group, sums), d) in self.groups.iter_mut().zip(&mut sums).zip(step_ds) {
            // From the same point again and again, gradients say nothing new about the distance, and hold the estimate down. What several
            // groups share has gone on from there.
            let learns = group.rate > 0.0 || (joint && group.had_gradient) || self.compat.learns_at_lr_0;
            sums.learns = learns;
            let step = step_of(group, &self.compat, self.storage, self.muon_bf16, group.rate * d, learns);
            let weight_sum_with_this_step = step.weight_sum + step.dlr * step.dlr;
            let mut weight_sum = step.weight_sum;
            for &i in &group.params {
                let step_parameter = match step.options.line {
                    Line::First => step::step_parameter,
                    Line::Second => second::step_parameter,
                };
                let updated = gradients[i]
                    .as_ref()
                    .is_some_and(|g| step_parameter(&mut self.parameters[i], g, &step, sums));
                sums.updated |= updated;
                if updated {
                    weight_sum = weight_sum_with_this_step;
                } else if self.compat.weight_sum_of_last_parameter {
                    weight_sum = step.weight_sum;
                }
            }
            group.weight_sum = weight_sum;
        }
        self.end_step(&sums);
        Ok(())
    }

    /// The `d` that each group steps with.
    fn step_ds(&self) -> Vec<f64> {
        let own: Vec<f64> = self.groups.iter().map(|group| group.d).collect();
        if !(self.options.split_groups && self.options.split_groups_mean && self.groups.len() > 1) {
            return own;
        }
        let can_move = |group: &GroupState| group.had_gradient && group.rate > 0.0;
        let left_d0 = |group: &GroupState| can_move(group) && group.d > group.options.d0;
        let anyone = |_: &GroupState| true;
        let mean = |counts: &dyn Fn(&GroupState) -> bool| {
            let ds: Vec<f64> =
                self.groups.iter().filter(|group| counts(group)).map(|group| group.d).collect();
            ds.len() as f64 / ds.iter().map(|d| 1.0 / d).sum::<f64>()
        };
        let any = |counts: &dyn Fn(&GroupState) -> bool| self.groups.iter().any(counts);
        if self.compat.harmonic_mean_counts_inactive || !any(&can_move) {
            vec![mean(&anyone); own.len()]
        } else if any(&left_d0) {
            let shared = mean(&left_d0);
            let d = |group: &GroupState| if left_d0(group) { shared } else { shared.min(group.d) };
            self.groups.iter().map(d).collect()
        } else {
            vec![mean(&can_move); own.len()]
        }
    }

    /// What happens when all parameters have reported.
    fn end_step(&mut self, sums: &[Sums]) {
        let joint = !self.options.split_groups || self.groups.len() == 1;
        if joint {
            let all = sums.iter().fold(Sums::default(), |all, group| Sums {
                numerator: all.numerator + group.numerator,
                denominator: all.denominator + group.denominator,
                weight: all.weight.max(group.weight),
                gradients: all.gradients || group.gradients,
                updated: all.updated || group.updated,
                learns: all.learns || group.learns,
            });
            // The shared estimate stands still as soon as a group no longer contributes to it.
            let moves = self.groups.iter().map(|group| group.moves).max().unwrap_or(1);
            if let Some((first, others)) = self.groups.split_first_mut() {
                first.estimate_d(all, moves, &self.compat);
                for group in others {
                    group.d = first.d;
                    group.numerator = first.numerator;
                    group.largest_numerator = first.largest_numerator;
                    if !self.compat.joint_d_prev_not_copied {
                        group.d_prev = first.d_prev;
                    }
                }
            }
        } else {
            for (group, sums) in self.groups.iter_mut().zip(sums) {
                group.estimate_d(*sums, group.moves, &self.compat);
            }
        }
        for (group, sums) in self.groups.iter_mut().zip(sums) {
            let moves = group.rate > 0.0;
            group.had_gradient |= sums.gradients && moves;
            if sums.gradients || self.compat.k_advances_without_gradients {
                group.k += 1;
                group.moves += u64::from(moves || self.compat.freeze_counts_still_steps);
            }
        }
    }

    /// Parameter `i` as it is while training, where gradients are taken.
    pub fn y(&self, i: usize) -> &ArrayD<f64> {
        &self.parameters[i].y
    }

    /// Parameter `i` as it is for evaluation.
    pub fn x(&self, i: usize) -> ArrayD<f64> {
        let parameter = &self.parameters[i];
        match &parameter.state {
            Some(state) if self.options_of(i).use_schedulefree => {
                let weight = 1.0 - 1.0 / self.options_of(i).betas.0;
                self.storage.store(schedule_free::lerp(
                    &parameter.y,
                    &state.z,
                    weight,
                    self.storage.arithmetic(),
                ))
            }
            _ => parameter.y.clone(),
        }
    }

    /// Switches to evaluation and back to training.
    pub fn eval_then_train(&mut self) {
        if !self.compat.evaluation_moves_parameters {
            return;
        }
        for i in 0..self.parameters.len() {
            if !self.options_of(i).use_schedulefree {
                continue;
            }
            let x = self.x(i);
            let weight = 1.0 - self.options_of(i).betas.0;
            let parameter = &mut self.parameters[i];
            if let Some(state) = &parameter.state {
                parameter.y =
                    self.storage.store(schedule_free::lerp(&x, &state.z, weight, self.storage.arithmetic()));
            }
        }
    }

    /// Every group's `d`.
    pub fn d(&self) -> Vec<f64> {
        self.groups.iter().map(|group| group.d).collect()
    }

    fn options_of(&self, i: usize) -> &Options {
        let group = self.groups.iter().find(|group| group.params.contains(&i));
        group.map_or(&self.options, |group| &group.options)
    }
}

impl GroupState {
    fn estimate_d(&mut self, sums: Sums, moves: u64, compat: &Compat) {
        // A step that updated nothing used no d, so the moments have yet to be rescaled by its last change.
        if !sums.updated && !compat.d_updates_without_gradients {
            return;
        }
        let options = &self.options;
        if options.prodigy_steps > 0 && moves >= options.prodigy_steps {
            if !compat.freeze_keeps_d_prev {
                self.d_prev = self.d;
            }
            return;
        }
        if !sums.learns {
            self.d_prev = self.d;
            return;
        }
        // A step that says nothing about the gradients: all samples are zero, or in parameters without elements.
        let has_denominator = options.line == Line::First || !options.use_speed;
        if has_denominator && sums.denominator == 0.0 && !compat.d_updates_without_gradients {
            self.d_prev = self.d;
            return;
        }
        if options.line == Line::Second {
            second::estimate(self, sums);
            return;
        }
        self.numerator = prodigy::next_numerator(self.numerator, sums, self.d, options);
        self.d_prev = self.d;
        self.d = prodigy::next_d(
            self.d,
            self.numerator,
            sums.denominator,
            options,
            compat.speed_shrinks_above_one,
        );
    }
}
