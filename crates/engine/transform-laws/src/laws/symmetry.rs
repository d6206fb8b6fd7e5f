//! Laws of scale, sign and order.

use anyhow::{Context as _, Result, anyhow, ensure};
use half::bf16;

use super::{ensure_finite, ensure_same, ensure_within, fitting, mapped, of_row, single};
use crate::problem::{Problem, deviation, permuted};
use crate::row::{Permutation, Row, Scale};

fn scales(row: &Row, scale: Scale) -> Result<()> {
    let problem = Problem::usual();
    match scale {
        Scale::Invariant => {
            let large = single(row, &problem.scaled(1.0, 256.0))?;
            ensure_finite(&large)?;
            ensure_same("gradients times 8", &single(row, &problem.scaled(1.0, 2048.0))?, &large)
        }
        Scale::Linear => {
            let plain = single(row, &problem)?;
            ensure_finite(&plain)?;
            [8.0, 0.125].into_iter().try_for_each(|factor| {
                let scaled = single(row, &problem.scaled(factor, factor))?;
                ensure_same(&format!("all times {factor}"), &scaled, &mapped(&plain, |y| y * factor))
            })
        }
    }
}

pub(crate) fn follows_its_law_of_scale(row: &Row) -> Result<()> {
    let fits = |scale: &Scale| scales(row, *scale).is_ok();
    scales(row, row.laws.scale)
        .with_context(|| fitting("scale", [Scale::Invariant, Scale::Linear].into_iter().find(fits)))
}

pub(crate) fn is_odd(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let negated = problem.scaled(-1.0, -1.0);
    let (ours, theirs) = (single(row, &negated)?, mapped(&single(row, &problem)?, |y| -y));
    if !row.laws.odd {
        ensure!(
            ours != theirs,
            "negated gradients and parameters negate the trajectory, but the row says that they do not"
        );
        return Ok(());
    }
    ensure_same("in float32", &ours, &theirs)?;
    let narrow = |problem| of_row::<f32, bf16>(row, problem);
    ensure_same("in bfloat16", &narrow(&negated)?, &mapped(&narrow(&problem)?, |y| -y))
}

/// The usual numbers have few digits: float32 adds their squares without rounding, in any order. Times 4/3 they have all digits.
fn of_all_digits() -> Problem {
    Problem::usual().scaled(4.0 / 3.0, 4.0 / 3.0)
}

/// About twice a deviation, in one digit.
fn with_margin(relative: f64) -> f64 {
    format!("{:.0e}", 2.0 * relative).parse().unwrap_or(relative)
}

pub(crate) fn follows_its_law_of_permutation(row: &Row) -> Result<()> {
    let problem = of_all_digits();
    let plain = mapped(&single(row, &problem)?, permuted);
    let of_permuted = problem.permuted();
    let ours = single(row, &of_permuted)?;
    let found = deviation(&ours, &plain, &of_permuted.init, 0.0);
    let fits = match found.relative {
        _ if ours == plain => Permutation::Exact,
        relative if relative > 1e-3 => Permutation::Changes,
        relative => Permutation::Within(with_margin(relative)),
    };
    let outcome = match row.laws.permutation {
        Permutation::Exact => ensure_same("permuted", &ours, &plain),
        Permutation::Within(tolerance) => ensure_within("permuted", &found, tolerance),
        Permutation::Changes if found.relative > 1e-3 => Ok(()),
        Permutation::Changes => Err(anyhow!("permuted, it changes only by {:e}", found.relative)),
    };
    outcome.with_context(|| fitting("permutation", Some(fits)))
}
