//! Numbers as people read them.

use crate::statistics::{PairedDifference, Summary};

/// What is measured, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Accuracy,
    Loss,
}

impl Metric {
    /// From the unit that is stored to the unit that is shown.
    pub(super) fn scaled(self, value: f64) -> f64 {
        match self {
            Metric::Accuracy => 100.0 * value,
            Metric::Loss => value,
        }
    }

    pub(super) fn value(self, value: f64) -> String {
        match self {
            Metric::Accuracy => format!("{:.2}", self.scaled(value)),
            Metric::Loss => format!("{value:.4}"),
        }
    }

    pub(super) fn difference(self, value: f64) -> String {
        let shown = match self {
            Metric::Accuracy => format!("{:+.2}", self.scaled(value)),
            Metric::Loss => format!("{value:+.4}"),
        };
        typographic(&shown)
    }

    pub(super) fn interval(self, difference: &PairedDifference) -> String {
        match difference.interval {
            Some((low, high)) => format!("[{}, {}]", self.difference(low), self.difference(high)),
            None => "[no interval]".to_owned(),
        }
    }

    pub(super) fn summary(self, summary: &Summary) -> String {
        match (summary.n, summary.sd) {
            (0, _) => "–".to_owned(),
            (_, Some(sd)) => format!("{} ± {}", self.value(summary.mean), self.value(sd)),
            (_, None) => self.value(summary.mean),
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
pub(super) fn brief(value: f64) -> String {
    significant(value, 2)
}

fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
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
        assert_eq!(Metric::Accuracy.difference(-1e-9), "0.00");
        assert_eq!(Metric::Accuracy.difference(0.0125), "+1.25");
        assert_eq!(Metric::Loss.difference(-0.01), "−0.0100");
    }
}
