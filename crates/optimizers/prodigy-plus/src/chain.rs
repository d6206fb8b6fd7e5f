//! Conversion of options to a chain.

use std::any::Any;

use adopt::{Adopt, AdoptClip};
use cautious::{Cautious, CautiousUpdate};
use factored_moment::{DenseMoment, Division, FactoredMoment, FirstMoment, Rectify, Squared};
use focus::Focus;
use gradient_transform::{
    DType, Descent, Error, GradientTransform, Link, Moment, MomentScale, Real, Result, Storage, only_for,
};
use grams::{Grams, GramsUpdate};
use muon_pp::{Muon, Normalisation, Precision};
use orthograd::OrthoGrad;
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use speed::{DisplacementSpeed, Speed};
use stableadamw::{SoftStableAdamW, StableAdamW};

use crate::options::Options;

pub(crate) type Boxed<T> = Box<dyn Link<T>>;

impl Options {
    /// The transforms of the chain that these options stand for, in order: to inspect, or to rearrange for a custom
    /// [`Optimizer`](gradient_transform::Optimizer).
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
            return chain(&self.clone().resolve_exclusions_like_the_reference(), None);
        }
        self.check_exclusions()?;
        chain(self, None)
    }
}

/// The chain of a group. If options that exclude each other are allowed, FOCUS has priority over Muon, and
/// Cautious over Grams. `initial_d` is the first d, if that is not the group's own d0.
///
/// ```text
/// with Schedule-Free   rectify | orthograd | moment | orthograd | clipping | estimator | schedule-free | cautious or grams
/// without              rectify | orthograd | first moment | cautious or grams | moment | orthograd | clipping | estimator | descent
/// ... and ADOPT        rectify | orthograd | adopt(moment) | adopt-clip | first moment | cautious or grams | orthograd | ...
/// ```
///
/// OrthoGrad has one of the two places.
fn chain_of<T: Real>(options: &Options, initial_d: Option<f64>) -> Result<Vec<Boxed<T>>> {
    let (beta2, compat, implied) = (options.betas.1, &options.compat, options.implied());
    Error::check("beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1")?;
    let with_first_moment = !options.use_schedulefree;
    let rectify = Rectify { beta2, divides_early: with_first_moment };
    let orthograd = OrthoGrad {
        normalises_noise: compat.orthograd_normalises_noise,
        narrow_products: compat.orthograd_narrow_products,
    };
    let orthograd = |here: bool| (options.use_orthograd && here).then(|| boxed(orthograd));

    let mut chain: Vec<Boxed<T>> = Vec::new();
    chain.extend(options.use_bias_correction.then(|| boxed(rectify)));
    chain.extend(orthograd(!implied.orthograd_on_update));
    match (with_first_moment, options.use_adopt) {
        (false, _) => chain.extend(preconditioner::<T>(options)),
        (true, false) => {
            chain.extend(first_moment::<T>(options, implied.moment_scale));
            chain.extend(preconditioner::<T>(options));
        }
        (true, true) => {
            chain.extend(preconditioner::<T>(options));
            chain.push(boxed(AdoptClip));
            let reads_weighted = compat.adopt_reads_weighted && implied.moment_scale == MomentScale::Weighted;
            let scale = if reads_weighted { MomentScale::Weighted } else { MomentScale::Fixed };
            chain.extend(first_moment::<T>(options, scale));
        }
    }
    chain.extend(orthograd(implied.orthograd_on_update));
    if implied.use_stableadamw {
        chain.push(if implied.soft_stableadamw { boxed(SoftStableAdamW) } else { boxed(StableAdamW) });
    }
    chain.push(estimator(options, initial_d));
    if with_first_moment {
        let Options { weight_decay, weight_decay_by_lr, .. } = *options;
        let decays_first = compat.decays_first;
        chain.push(boxed(Descent { weight_decay, weight_decay_by_lr, decays_first }));
        return Ok(chain);
    }
    chain.push(boxed(ScheduleFree {
        beta1: options.betas.0,
        strength: options.schedulefree_c,
        weight_decay: options.weight_decay,
        weight_decay_by_lr: options.weight_decay_by_lr,
        weight_sum_of_last_parameter: compat.weight_sum_of_last_parameter,
        decay_while_unrectified: compat.decay_while_unrectified,
        always_displaces: compat.always_displaces,
        round_every_operation: compat.round_every_operation && !options.stochastic_rounding,
    }));
    if options.use_cautious {
        chain.push(boxed(Cautious { scales_displacement: compat.cautious_scales_displacement }));
    } else if options.use_grams {
        chain.push(boxed(Grams));
    }
    Ok(chain)
}

fn estimator<T: Real>(options: &Options, initial_d: Option<f64>) -> Boxed<T> {
    /// 2^(1/4).
    const LIMIT: f64 = 1.189_207_115_002_721;
    let (compat, implied) = (&options.compat, options.implied());
    let prodigy = Prodigy {
        samples: Samples {
            at: implied.prodigy_at,
            narrow: compat.narrow_prodigy_state,
            keeps_step_with_shape: compat.samples_keep_step_with_shape,
            ..Samples::new(options.beta3_or_default())
        },
        d0: options.d0,
        d_coef: options.d_coef,
        prodigy_steps: options.prodigy_steps,
        weighting: implied.prodigy_weighting,
        ratio: implied.prodigy_ratio,
        negative: implied.prodigy_negative,
        growth: implied.d_limiter.then_some(LIMIT),
        initial_d,
        freeze_keeps_d_prev: compat.freeze_keeps_d_prev,
        d_from_nothing: compat.d_from_nothing,
        learns_at_lr_0: compat.learns_at_lr_0,
    };
    match (options.use_speed, implied.displacement_speed) {
        (false, _) => Box::new(prodigy),
        (true, false) => Box::new(Speed { prodigy, shrinks_above_one: compat.speed_shrinks_above_one }),
        (true, true) => Box::new(DisplacementSpeed {
            samples: prodigy.samples,
            d0: prodigy.d0,
            d_coef: prodigy.d_coef,
            prodigy_steps: prodigy.prodigy_steps,
            weighting: prodigy.weighting,
            negative: prodigy.negative,
            initial_d: prodigy.initial_d,
            learns_at_lr_0: prodigy.learns_at_lr_0,
        }),
    }
}

/// The first moment, and Cautious or Grams after it.
fn first_moment<T: Real>(options: &Options, scale: MomentScale) -> Vec<Boxed<T>> {
    let compat = &options.compat;
    let times_update = options.use_cautious && compat.cautious_multiplies_by_gradient;
    let round_twice = compat.round_moments_twice;
    let beta1 = options.betas.0;
    let reads_weighted = options.use_adopt && compat.adopt_reads_weighted;
    let mut chain = vec![boxed(FirstMoment { beta1, scale, reads_weighted, times_update, round_twice })];
    if options.use_cautious {
        chain.extend((!times_update).then(|| boxed(CautiousUpdate)));
    } else if options.use_grams {
        chain.push(boxed(GramsUpdate));
    }
    chain
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
        Err(_) => unreachable!("the computation is in float32 or float64"),
    }
}

fn boxed<T: Real>(transform: impl Link<T> + 'static) -> Boxed<T> {
    Box::new(transform)
}

fn preconditioner<T: Real>(options: &Options) -> Vec<Boxed<T>> {
    let (beta2, implied) = (options.betas.1, options.implied());
    let atan2 = if implied.unit_atan2 { Division::UnitAtan2 } else { Division::Atan2 };
    let division = options.eps.map_or(atan2, Division::Epsilon);
    // With a first moment before it, the moment is divided, and the gradient is squared.
    let follows_first = !options.use_schedulefree && !options.use_adopt;
    let of = if follows_first { Squared::Gradient } else { Squared::Update };
    let round_twice = options.compat.round_moments_twice;
    let scale = implied.moment_scale;
    let with_first_moment = options.use_adopt && !options.use_schedulefree;
    let reads_weighted = with_first_moment && options.compat.adopt_reads_weighted;
    let moment: Boxed<T> = if options.use_focus {
        with_adopt(options, focus(options))
    } else if implied.factored {
        let storage = if options.factored_fp32 { Storage::Compute } else { Storage::Parameter };
        let wrong_row_mean = options.compat.wrong_row_mean;
        let moment = FactoredMoment { division, scale, of, storage, ..FactoredMoment::new(beta2) };
        with_adopt(options, FactoredMoment { wrong_row_mean, round_twice, reads_weighted, ..moment })
    } else {
        with_adopt(
            options,
            DenseMoment { division, scale, of, round_twice, reads_weighted, ..DenseMoment::new(beta2) },
        )
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

fn focus(options: &Options) -> Focus {
    let implied = options.implied();
    let reads_weighted = options.compat.focus_reads_weighted;
    // An average of the weights does not depend on d; only 1.9.2 shrinks it as d moves, without a switch.
    let scale = match implied.moment_scale {
        MomentScale::Weighted if !reads_weighted => MomentScale::Fixed,
        scale => scale,
    };
    let round_twice = options.compat.round_moments_twice;
    Focus { scale, of: implied.focus_of, reads_weighted, round_twice, ..Focus::new(options.betas.1) }
}

fn with_adopt<T: Real>(options: &Options, moment: impl Moment + GradientTransform + 'static) -> Boxed<T> {
    if options.use_adopt {
        let first_step_of_group = options.compat.adopt_first_step_of_group;
        Box::new(Adopt { moment, first_step_of_group })
    } else {
        Box::new(moment)
    }
}
