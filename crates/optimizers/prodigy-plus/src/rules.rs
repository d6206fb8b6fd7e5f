//! Rules of combination: exclusions, and order.

use gradient_transform::{Error, Result};

use crate::options::Options;

/// Two options that cannot be combined.
///
/// ```
/// use prodigy_plus::{EXCLUSIONS, Exclusion};
///
/// let with_focus: Vec<&Exclusion> = EXCLUSIONS.iter().filter(|rule| rule.first == "use_focus").collect();
/// assert_eq!(with_focus.iter().map(|rule| rule.second).collect::<Vec<_>>(), ["factored", "use_muon_pp", "eps=None"]);
/// assert!(!with_focus[0].reason.is_empty() && !with_focus[0].upstream.is_empty());
/// ```
pub struct Exclusion {
    /// One of them, in the user's spelling.
    pub first: &'static str,
    /// The other.
    pub second: &'static str,
    /// The reason, and the remedy.
    pub reason: &'static str,
    /// Silent behaviour of the Python package.
    pub upstream: &'static str,
    applies: fn(&Options) -> bool,
}

/// Where a transform belongs in a chain.
///
/// ```
/// use prodigy_plus::{POSITIONS, Position};
///
/// let Position { place, otherwise, .. } = POSITIONS.iter().find(|p| p.transform == "cautious, grams").unwrap();
/// assert_eq!(*place, "after the writer");
/// assert!(otherwise.starts_with("an error"));
/// ```
pub struct Position {
    /// The transform.
    pub transform: &'static str,
    /// Its place.
    pub place: &'static str,
    /// Behaviour otherwise.
    pub otherwise: &'static str,
}

/// All pairs of options that exclude each other.
pub const EXCLUSIONS: &[Exclusion] = &[
    Exclusion {
        first: "eps=None",
        second: "use_stableadamw",
        reason: "atan2 bounds the update already; leave use_stableadamw out",
        upstream: "use_stableadamw is switched off",
        applies: |o| o.eps.is_none() && o.use_stableadamw == Some(true),
    },
    Exclusion {
        first: "use_cautious",
        second: "use_grams",
        reason: "both change the same displacement; keep one",
        upstream: "use_grams is switched off",
        applies: |o| o.use_cautious && o.use_grams,
    },
    Exclusion {
        first: "use_focus",
        second: "factored",
        reason: "FOCUS keeps an average of every weight; leave factored out",
        upstream: "factored is switched off",
        applies: |o| o.use_focus && o.factored == Some(true),
    },
    Exclusion {
        first: "use_focus",
        second: "use_muon_pp",
        reason: "both turn the gradient into a direction; keep one",
        upstream: "use_muon_pp is switched off",
        applies: |o| o.use_focus && o.use_muon_pp,
    },
    Exclusion {
        first: "use_focus",
        second: "eps=None",
        reason: "FOCUS divides by nothing; leave eps at its default",
        upstream: "eps=None has no effect",
        applies: |o| o.use_focus && o.eps.is_none(),
    },
];

/// The order of a chain.
pub const POSITIONS: &[Position] = &[
    Position {
        transform: "rectify",
        place: "before the writer",
        otherwise: "an error; the writer would take the step unrectified",
    },
    Position {
        transform: "orthograd",
        place: "before the moment",
        otherwise: "after it, the direction is projected instead of the gradient; that is another method, the one of 2.0.1",
    },
    Position {
        transform: "first-moment",
        place: "before a second moment of the raw gradient, or after adopt",
        otherwise: "after any other, it averages directions of different scales",
    },
    Position {
        transform: "cautious-update, grams-update",
        place: "after the first moment",
        otherwise: "without a first moment, the update always agrees with the gradient",
    },
    Position {
        transform: "factored-moment, dense-moment, adopt, focus, muon",
        place: "one of them for each tensor, before stableadamw",
        otherwise: "two of them in a row divide twice; only focus excludes the others",
    },
    Position {
        transform: "stableadamw, soft-stableadamw",
        place: "after the moment, before the writer",
        otherwise: "before the moment, it clips the raw gradient, which the moment then scales again",
    },
    Position {
        transform: "prodigy, speed, displacement-speed",
        place: "one of them, anywhere before the writer",
        otherwise: "two are an error; without one, the learning rate is the step size",
    },
    Position {
        transform: "schedule-free, descent",
        place: "exactly one, after all that change the update",
        otherwise: "none, two, or an update's transform after it are errors",
    },
    Position {
        transform: "cautious, grams",
        place: "after the writer",
        otherwise: "an error; they change the displacement that the writer makes",
    },
];

impl Options {
    /// Rejects options that exclude each other, by [`EXCLUSIONS`].
    ///
    /// ```
    /// use prodigy_plus::Options;
    ///
    /// let error = Options::default().use_cautious(true).use_grams(true).check_exclusions().unwrap_err();
    /// assert!(error.to_string().contains("both change the same displacement; keep one"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Excluded`] for the first pair found.
    pub fn check_exclusions(&self) -> Result<()> {
        match EXCLUSIONS.iter().find(|rule| (rule.applies)(self)) {
            None => Ok(()),
            Some(rule) => Err(Error::Excluded {
                first: rule.first.into(),
                second: rule.second.into(),
                reason: rule.reason,
            }),
        }
    }
}

/// Both tables as Markdown, as in this crate's documentation.
///
/// ```
/// assert!(prodigy_plus::rules_table().contains("| `use_cautious` | `use_grams` |"));
/// ```
pub fn rules_table() -> String {
    let mut text =
        String::from("| Option | excludes | because | the Python package |\n| --- | --- | --- | --- |\n");
    for rule in EXCLUSIONS {
        text += &format!("| `{}` | `{}` | {} | {} |\n", rule.first, rule.second, rule.reason, rule.upstream);
    }
    text += "\n| Transform | belongs | otherwise |\n| --- | --- | --- |\n";
    for rule in POSITIONS {
        text += &format!("| {} | {} | {} |\n", rule.transform, rule.place, rule.otherwise);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_rules_in_force() {
        let readme = include_str!("../README.md");
        assert!(readme.contains(&rules_table()), "put this into README.md:\n{}", rules_table());
    }

    #[test]
    fn every_exclusion_is_refused_with_its_own_reason_and_the_defaults_are_not() {
        assert_eq!(Options::default().check_exclusions(), Ok(()));
        let offenders = [
            Options::default().eps(None).use_stableadamw(true),
            Options::default().use_cautious(true).use_grams(true),
            Options::default().use_focus(true).factored(true),
            Options::default().use_focus(true).use_muon_pp(true),
            Options::default().use_focus(true).eps(None),
        ];
        assert_eq!(offenders.len(), EXCLUSIONS.len());
        for (options, rule) in offenders.iter().zip(EXCLUSIONS) {
            let refused = Err(Error::Excluded {
                first: rule.first.into(),
                second: rule.second.into(),
                reason: rule.reason,
            });
            assert_eq!(options.check_exclusions(), refused);
        }
    }
}
