//! From options to a chain.

use std::any::Any;

use adopt::Adopt;
use cautious::Cautious;
use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use focus::Focus;
use gradient_transform::{DType, Error, GradientTransform, Link, Moment, Real, Result, Storage, only_for};
use grams::Grams;
use muon_pp::{Muon, Normalisation, Precision};
use orthograd::OrthoGrad;
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use speed::Speed;
use stableadamw::StableAdamW;

use crate::options::Options;

pub(crate) type Boxed<T> = Box<dyn Link<T>>;

impl Options {
    /// The transforms of the chain that these options mean, in order: to be looked at, or to be rearranged and put into
    /// an [`Optimizer`](gradient_transform::Optimizer) of one's own.
    ///
    /// ```
    /// use gradient_transform::{Descent, Link, Optimizer};
    /// use prodigy_plus::ProdigyPlus;
    /// let mut chain = ProdigyPlus::builder().transforms::<f32>()?;
    /// let names: Vec<&str> = chain.iter().map(|transform| transform.name()).collect();
    /// assert_eq!(names, ["factored-moment", "stableadamw", "prodigy", "schedule-free"]);
    /// chain[3] = Box::new(Descent::default()); // without averaging
    /// Optimizer::new(chain, [("w", &[3][..])])?;
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Options out of range or excluding each other.
    pub fn transforms<T: Real>(&self) -> Result<Vec<Boxed<T>>> {
        if self.compat.silent_exclusions {
            return chain(&self.clone().resolve_exclusions_like_1_9_2(), None);
        }
        self.check_exclusions()?;
        chain(self, None)
    }
}

/// The chain of a group, in order: rectification, OrthoGrad, one
/// preconditioner, clipping, the estimator, the writer, and what tempers it.
///
/// Where options that exclude each other were let through, FOCUS goes before Muon, and Cautious before Grams.
/// `initial_d` is what d starts from, where that is not the group's own d0.
fn chain_of<T: Real>(options: &Options, initial_d: Option<f64>) -> Result<Vec<Boxed<T>>> {
    let compat = &options.compat;
    let (beta1, beta2) = options.betas;
    Error::check("beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1")?;
    let prodigy = Prodigy {
        samples: Samples {
            narrow: compat.narrow_prodigy_state,
            keeps_step_with_shape: compat.samples_keep_step_with_shape,
            ..Samples::new(options.beta3_or_default())
        },
        d0: options.d0,
        d_coef: options.d_coef,
        prodigy_steps: options.prodigy_steps,
        initial_d,
        freeze_keeps_d_prev: compat.freeze_keeps_d_prev,
        d_from_nothing: compat.d_from_nothing,
    };
    let estimator: Boxed<T> = if options.use_speed {
        Box::new(Speed { prodigy, shrinks_above_one: compat.speed_shrinks_above_one })
    } else {
        Box::new(prodigy)
    };
    let writer = ScheduleFree {
        beta1,
        weight_decay: options.weight_decay,
        weight_decay_by_lr: options.weight_decay_by_lr,
        weight_sum_of_last_parameter: compat.weight_sum_of_last_parameter,
        decay_while_unrectified: compat.decay_while_unrectified,
        round_every_operation: compat.round_every_operation && !options.stochastic_rounding,
    };
    let rectify = options.use_bias_correction.then(|| boxed(Rectify { beta2 }));
    let orthograd = OrthoGrad { normalises_noise: compat.orthograd_normalises_noise };
    let mut chain: Vec<Boxed<T>> = rectify.into_iter().collect();
    chain.extend(options.use_orthograd.then(|| boxed(orthograd)));
    chain.extend(preconditioner::<T>(options));
    chain.extend(options.use_stableadamw.then(|| boxed(StableAdamW)));
    chain.extend([estimator, boxed(writer)]);
    if options.use_cautious {
        chain.push(Box::new(Cautious { scales_displacement: compat.cautious_scales_displacement }));
    } else if options.use_grams {
        chain.push(Box::new(Grams));
    }
    Ok(chain)
}

/// As `chain_of`, compiled here for both types, and not in every program that uses it.
pub(crate) fn chain<T: Real>(options: &Options, initial_d: Option<f64>) -> Result<Vec<Boxed<T>>> {
    #[inline(never)]
    fn single(options: &Options, initial_d: Option<f64>) -> Result<Vec<Boxed<f32>>> {
        chain_of(options, initial_d)
    }
    #[inline(never)]
    fn double(options: &Options, initial_d: Option<f64>) -> Result<Vec<Boxed<f64>>> {
        chain_of(options, initial_d)
    }
    let made: Box<dyn Any> = match T::DTYPE {
        DType::F64 => Box::new(double(options, initial_d)?),
        _ => Box::new(single(options, initial_d)?),
    };
    match made.downcast::<Vec<Boxed<T>>>() {
        Ok(chain) => Ok(*chain),
        Err(_) => unreachable!("float32 and float64 are all types that are computed in"),
    }
}

fn boxed<T: Real>(transform: impl Link<T> + 'static) -> Boxed<T> {
    Box::new(transform)
}

fn preconditioner<T: Real>(options: &Options) -> Vec<Boxed<T>> {
    let beta2 = options.betas.1;
    let division = options.eps.map_or(Division::Atan2, Division::Epsilon);
    let round_twice = options.compat.round_moments_twice;
    let moment: Boxed<T> = if options.use_focus {
        with_adopt(options, Focus { round_twice, ..Focus::new(beta2) })
    } else if options.factored {
        let storage = if options.factored_fp32 { Storage::Compute } else { Storage::Parameter };
        let wrong_row_mean = options.compat.wrong_row_mean;
        let moment = FactoredMoment::new(beta2);
        with_adopt(options, FactoredMoment { division, storage, wrong_row_mean, round_twice, ..moment })
    } else {
        with_adopt(options, DenseMoment { division, round_twice, ..DenseMoment::new(beta2) })
    };
    if !options.use_muon_pp || options.use_focus {
        return vec![moment];
    }
    let muon = Muon {
        precision: if options.muon_bf16_iterations { Precision::Bf16 } else { Precision::Full },
        normalisation: if options.use_speed {
            Normalisation::FirstUpdate
        } else {
            Normalisation::MovingAverage
        },
        narrow_mean_square: options.compat.narrow_muon_mean_square,
        ..Muon::new(beta2)
    };
    vec![Box::new(muon), boxed(only_for(|tensor| !Muon::takes(tensor), moment))]
}

fn with_adopt<T: Real>(options: &Options, moment: impl Moment + GradientTransform + 'static) -> Boxed<T> {
    if options.use_adopt {
        let first_step_of_group = options.compat.adopt_first_step_of_group;
        Box::new(Adopt { moment, first_step_of_group })
    } else {
        Box::new(moment)
    }
}
