//! Numbers as people read them.

use ablate_statistics::{Interval, PairedDifference, Probability, Summary};
use ablate_tasks::Measure;

/// Format of a measure's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown(pub(crate) Measure);

impl Shown {
    /// From the unit that is stored to the unit that is shown.
    pub(super) fn scaled(self, value: f64) -> f64 {
        if self.0 == Measure::Accuracy { 100.0 * value } else { value }
    }

    /// 1 where a higher value is better, -1 where a lower one is.
    pub(super) fn better(self) -> f64 {
        if self.0.higher_is_better() { 1.0 } else { -1.0 }
    }

    /// The measure with its unit, for headings.
    pub(super) fn name(self) -> &'static str {
        match self.0 {
            Measure::Accuracy => "test accuracy, %",
            Measure::Loss => "test loss",
            Measure::LogLoss => "test loss, log10",
        }
    }

    /// The unit of a difference.
    pub(super) fn difference_name(self) -> &'static str {
        match self.0 {
            Measure::Accuracy => "test accuracy, percentage points",
            Measure::Loss => "test loss",
            Measure::LogLoss => "test loss, decades",
        }
    }

    /// The unit of a difference, after a number.
    pub(crate) fn unit(self) -> &'static str {
        match self.0 {
            Measure::Accuracy => "points",
            Measure::Loss => "in loss",
            Measure::LogLoss => "decades",
        }
    }

    /// A difference without its sign.
    pub(crate) fn size(self, value: f64) -> String {
        brief(self.scaled(value).abs())
    }

    pub(super) fn value(self, value: f64) -> String {
        match self.0 {
            Measure::Accuracy => format!("{:.2}", self.scaled(value)),
            Measure::Loss => significant(value, 4),
            Measure::LogLoss => typographic(&format!("{value:.3}")),
        }
    }

    pub(super) fn difference(self, value: f64) -> String {
        let value = self.scaled(value);
        typographic(&format!("{value:+.*}", self.decimals(value)))
    }

    /// A difference with as many decimals as [`difference`](Self::difference), without its sign.
    fn unsigned_difference(self, value: f64) -> String {
        let size = self.scaled(value).abs();
        format!("{size:.*}", self.decimals(size))
    }

    /// Decimals of a difference in the unit that is shown.
    fn decimals(self, value: f64) -> usize {
        match value.abs() {
            size if size >= 10.0 => 1,
            size if size >= 0.1 || self.0 == Measure::Accuracy => 2,
            size if size >= 0.01 => 3,
            _ => 4,
        }
    }

    /// Mean of a comparison, with the number of its pairs if other pairs lack a finite value.
    pub(super) fn mean_difference(self, found: Option<&PairedDifference>) -> String {
        mean(found, |mean| self.difference(mean))
    }

    /// The same without a sign.
    pub(super) fn mean_size(self, found: &PairedDifference) -> String {
        mean(Some(found), |mean| self.unsigned_difference(mean))
    }

    /// The same with its interval.
    pub(super) fn comparison(self, found: &PairedDifference) -> String {
        match found.mean {
            Some(mean) => {
                format!("{} {}{}", self.difference(mean), self.interval(found.interval), incomplete(found))
            }
            None => format!("–{}", incomplete(found)),
        }
    }

    pub(super) fn interval(self, interval: Option<Interval>) -> String {
        interval.map_or("[no interval]".to_owned(), |interval| {
            format!("[{}, {}]", self.difference(interval.low), self.difference(interval.high))
        })
    }

    pub(super) fn summary(self, summary: Option<&Summary>) -> String {
        match summary {
            None => "–".to_owned(),
            Some(Summary { mean, sd: Some(sd), .. }) => {
                let spread = significant(self.scaled(*sd), 2);
                format!("{} ± {spread}", self.value(*mean))
            }
            Some(summary) => self.value(summary.mean),
        }
    }
}

fn mean(found: Option<&PairedDifference>, written: impl Fn(f64) -> String) -> String {
    let Some(found) = found else { return "–".to_owned() };
    format!("{}{}", found.mean.map_or("–".to_owned(), written), incomplete(found))
}

/// Number of pairs in the mean, if others are missing.
fn incomplete(found: &PairedDifference) -> String {
    let PairedDifference { n, finite, .. } = found;
    if finite < n { format!(" ({finite} of {n} pairs)") } else { String::new() }
}

/// p as it is usually written.
pub(super) fn p_value(p: Option<f64>) -> String {
    match p {
        None => "–".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

/// A probability with its interval, where it has one.
pub(super) fn probability(found: Option<Probability>) -> String {
    match found {
        None => "–".to_owned(),
        Some(Probability { value, interval: None }) => format!("{value:.2}"),
        Some(Probability { value, interval: Some(interval) }) => {
            format!("{value:.2} [{:.2}, {:.2}]", interval.low, interval.high)
        }
    }
}

/// A hyphen is too short to be seen as a sign, and zero has none.
pub(super) fn typographic(number: &str) -> String {
    let is_zero = !number.contains(|c: char| c.is_ascii_digit() && c != '0');
    if is_zero { number.trim_start_matches(['+', '-']).to_owned() } else { number.replace('-', "−") }
}

/// Three significant digits, without trailing zeros: for axes and step sizes.
pub(super) fn short(value: f64) -> String {
    significant(value, 3)
}

/// Two significant digits: where there is little room.
pub(crate) fn brief(value: f64) -> String {
    significant(value, 2)
}

fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return "–".to_owned();
    }
    if !(1e-3..1e5).contains(&value.abs()) {
        let shown = format!("{value:.1e}");
        return typographic(&shown.replace(".0e", "e"));
    }
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let shown = format!("{value:.decimals$}");
    let trimmed =
        if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.') } else { &shown };
    typographic(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (-0.25, "−0.25"),
            (1e-6, "1e−6"),
            (0.00312, "0.00312"),
            (1320.0, "1320"),
            (0.1, "0.1"),
            (0.000156, "1.6e−4"),
        ];
        for (value, shown) in cases {
            assert_eq!(short(value), shown);
        }
    }

    #[test]
    fn a_difference_that_rounds_to_zero_has_no_sign() {
        assert_eq!(Shown(Measure::Accuracy).difference(-1e-9), "0.00");
        assert_eq!(Shown(Measure::Accuracy).difference(0.0125), "+1.25");
        assert_eq!(Shown(Measure::Loss).difference(-0.01), "−0.010");
    }

    #[test]
    fn an_unsigned_difference_has_the_digits_of_the_signed_one() {
        for measure in [Measure::Accuracy, Measure::Loss, Measure::LogLoss] {
            for value in [-12.34, -0.5, -0.0567, -0.001, 0.0, 1e-9, 0.03, 0.25, 99.96] {
                let signed = Shown(measure).difference(value);
                assert_eq!(Shown(measure).unsigned_difference(value), signed.trim_start_matches(['+', '−']));
            }
        }
    }
}
