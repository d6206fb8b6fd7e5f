//! From options to a chain.

use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use gradient_transform::{Error, GradientTransform, Real, Result, Storage};
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;

use crate::compat::Compat;
use crate::options::Options;

type Boxed<T> = Box<dyn GradientTransform<T>>;

/// The chain of a group, in order:
/// rectification, orthogonalisation against the weights, one preconditioner, clipping, the estimator, the writer, and what tempers it.
///
/// `initial_d` is what d starts from, where that is not the group's own d0.
pub(crate) fn chain<T: Real>(options: &Options, compat: &Compat, initial_d: Option<f64>) -> Result<Boxed<T>> {
    for (option, on) in [
        ("use_speed", options.use_speed),
        ("use_muon_pp", options.use_muon_pp),
        ("use_cautious", options.use_cautious),
        ("use_grams", options.use_grams),
        ("use_adopt", options.use_adopt),
        ("use_orthograd", options.use_orthograd),
        ("use_focus", options.use_focus),
    ] {
        if on {
            return Err(Error::Unsupported { option });
        }
    }
    let (beta1, beta2) = options.betas;
    Error::check("beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1")?;
    let rectify = options.use_bias_correction.then_some(Rectify { beta2 });
    let clip = options.use_stableadamw.then_some(StableAdamW);
    let prodigy = Prodigy {
        samples: Samples { narrow: compat.narrow_prodigy_state, ..Samples::new(options.beta3_or_default()) },
        d0: options.d0,
        d_coef: options.d_coef,
        prodigy_steps: options.prodigy_steps,
        initial_d,
        freeze_keeps_d_prev: compat.freeze_keeps_d_prev,
    };
    let writer = ScheduleFree {
        beta1,
        weight_decay: options.weight_decay,
        weight_decay_by_lr: options.weight_decay_by_lr,
        weight_sum_of_last_parameter: compat.weight_sum_of_last_parameter,
        decay_while_unrectified: compat.decay_while_unrectified,
    };
    Ok(Box::new((rectify, preconditioner(options, compat), clip, prodigy, writer)))
}

fn preconditioner<T: Real>(options: &Options, compat: &Compat) -> Boxed<T> {
    let beta2 = options.betas.1;
    let division = options.eps.map_or(Division::Atan2, Division::Epsilon);
    let round_twice = compat.round_moments_twice;
    if options.factored {
        Box::new(FactoredMoment {
            division,
            storage: if options.factored_fp32 { Storage::Compute } else { Storage::Parameter },
            wrong_row_mean: compat.wrong_row_mean,
            round_twice,
            ..FactoredMoment::new(beta2)
        })
    } else {
        Box::new(DenseMoment { division, round_twice, ..DenseMoment::new(beta2) })
    }
}
