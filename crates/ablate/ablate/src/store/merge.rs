//! The union of stores.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Found, PREFIX, RUN, Store, parse};
use crate::measured::Measured;
use crate::prefix::Prefix;
use crate::record::{Outcome, Record};

/// Outcome for the files of another store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    /// Number of runs and states that are here now.
    pub copied: usize,
    /// Number of those that were here before, with the same result.
    pub known: usize,
    /// Two results of one address.
    pub conflicts: Vec<Conflict>,
    /// Files of either store that are not what was written. The other store's are left where they are, and this one's
    /// replaced by whole ones.
    pub damaged: Vec<String>,
}

/// Two results under one address, although the address has everything in it that should determine the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The address.
    pub address: String,
    /// The file here, which stays as it is.
    pub here: String,
    /// The other one.
    pub there: String,
    /// First difference between the two, in words.
    pub difference: String,
}

/// Mistake in a merge.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MergeError {
    /// Nothing was stored there.
    #[error("{0} is no study's folder: it has no folder `runs`")]
    NoStore(PathBuf),
    /// Something is not deterministic, or the stores are not what they were.
    #[error(
        "two results under one address, of {} of the runs: something about them is not deterministic. Those that were here have stayed:\n{}",
        .0.len(),
        .0.join("\n")
    )]
    Conflicts(Vec<String>),
    /// As two of different stores, and found when the second one had ended.
    #[error(
        "two results under one address: something about the run is not deterministic. The one that was stored first has stayed, in {at}: {difference}"
    )]
    Second {
        /// The first one.
        at: String,
        /// First difference between the two, in words.
        difference: String,
    },
}

/// Kind of stored content, and its comparison.
struct Kind<C> {
    parse: fn(&[u8]) -> Result<C>,
    difference: fn(&C, &C) -> Option<String>,
}

const RUNS: Kind<Measured> = Kind { parse, difference };

const STATES: Kind<Prefix> = Kind { parse: Prefix::from_bytes, difference: difference_of_states };

impl Store {
    /// Copies what another store has and this one hasn't. Nothing that is whole is overwritten, and every file appears
    /// when it is complete. Two results are equal when all is but the time that they took, and the further numbers that
    /// a command printed, which may be times as well.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn merge(&self, other: &Self) -> Result<Merged> {
        let mut merged = Merged::default();
        let mut names = other.backend.names()?;
        names.sort();
        for name in names {
            match name.rsplit_once('.') {
                Some((address, RUN)) => self.take_over(other, (address, &name), &RUNS, &mut merged)?,
                Some((address, PREFIX)) => self.take_over(other, (address, &name), &STATES, &mut merged)?,
                _ => {}
            }
        }
        Ok(merged)
    }

    /// Takes a file of another store over.
    fn take_over<C>(
        &self,
        other: &Self,
        (address, name): (&str, &str),
        kind: &Kind<C>,
        merged: &mut Merged,
    ) -> Result<()> {
        // Its own process has just removed it.
        let Some(content) = other.backend.read(name)? else { return Ok(()) };
        let place = other.backend.shown(name);
        let there = match (kind.parse)(&content) {
            Ok(there) => there,
            Err(error) => {
                merged.damaged.push(format!("{place}: {error:#}"));
                return Ok(());
            }
        };
        loop {
            match self.read(name, kind.parse)? {
                Found::Whole(here) => {
                    match (kind.difference)(&here, &there) {
                        None => merged.known += 1,
                        Some(difference) => merged.conflicts.push(Conflict {
                            address: address.to_owned(),
                            here: self.backend.shown(name),
                            there: place,
                            difference,
                        }),
                    }
                    return Ok(());
                }
                Found::Damaged(what) => {
                    merged.damaged.push(what);
                    self.backend.remove(name)?;
                }
                Found::Nothing => {}
            }
            // Another process may put its own there meanwhile, which is then compared with.
            if self.backend.create(name, &content).with_context(|| format!("cannot copy {place}"))? {
                merged.copied += 1;
                return Ok(());
            }
        }
    }
}

/// First difference between the results of two runs.
pub(super) fn difference(here: &Measured, there: &Measured) -> Option<String> {
    let timeless = |run: &Measured| {
        let mut record = run.record.clone();
        record.curve.iter_mut().for_each(|point| point.seconds = 0.0);
        record
    };
    let (here, there) = (timeless(here), timeless(there));
    if here == there {
        return None;
    }
    let differing = here.curve.iter().zip(&there.curve).find(|(here, there)| here != there);
    Some(if here.initial_sha256 != there.initial_sha256 {
        "the initial weights differ".to_owned()
    } else if let Some((here, there)) = differing {
        let (step, here, there) = (here.step, here.train.loss, there.train.loss);
        format!("the curves part at step {step}, where the training loss is {here} here and {there} there")
    } else if here.batches_sha256 != there.batches_sha256 {
        "the batches differ".to_owned()
    } else {
        format!("one {}, the other {}", ended(&here), ended(&there))
    })
}

fn ended(record: &Record) -> String {
    match &record.outcome {
        Outcome::Finished { evaluation } => {
            format!("ended after {} steps with loss {}", record.steps, evaluation.loss)
        }
        Outcome::Diverged { step, reason } => format!("diverged at step {step}, because {reason}"),
    }
}

fn difference_of_states(here: &Prefix, there: &Prefix) -> Option<String> {
    let is_equal = here.is_same_state(there);
    (!is_equal).then(|| "the states of the base from which others go on differ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    #[cfg(unix)]
    use std::path::Path;

    use crate::run::Observed;
    use crate::store::tests::run;

    fn stores() -> (tempfile::TempDir, Store, Store) {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| Store::open(&folder.path().join(name)).unwrap());
        (folder, a, b)
    }

    fn state(weight: f32) -> Prefix {
        let weights = vec![vec![weight]];
        Prefix { seen: Observed::new(&weights), weights, optimizer: vec![1, 2, 3], forked: None }
    }

    #[test]
    fn a_union_has_what_either_has_and_times_are_no_difference() {
        let (folder, a, b) = stores();
        let mut slower = run();
        slower.record.curve[0].seconds *= 3.0;
        slower.further.insert("seconds".into(), vec![(1, 2.5)]);
        a.save("both", &run()).unwrap();
        a.save_prefix("both", &state(1.0)).unwrap();
        b.save("both", &slower).unwrap();
        b.save_prefix("both", &state(1.0)).unwrap();
        b.save("there", &run()).unwrap();
        b.save_prefix("there", &state(2.0)).unwrap();
        let claim = b.claim("running").unwrap();
        let merged = a.merge(&b).unwrap();
        assert_eq!(merged, Merged { copied: 2, known: 2, ..Merged::default() });
        assert_eq!(a.load("both").unwrap(), Found::Whole(Box::new(run())));
        assert_eq!(a.load("there").unwrap(), b.load("there").unwrap());
        assert_eq!(a.load_prefix("there").unwrap(), Found::Whole(Box::new(state(2.0))));
        assert_eq!(fs::read_dir(folder.path().join("a/runs")).unwrap().count(), 4);
        assert_eq!(a.merge(&b).unwrap(), Merged { known: 4, ..Merged::default() });
        assert_eq!(a.merge(&a).unwrap().known, 4);
        drop(claim);
    }

    #[test]
    fn two_results_of_one_address_are_named_and_what_was_here_stays() {
        let (_folder, a, b) = stores();
        type Variant = (&'static str, fn(&mut Measured), &'static str);
        let variants: [Variant; 5] = [
            (
                "loss",
                |run| run.record.curve[0].train.loss = 0.25,
                "part at step 0, where the training loss is 0.1 here and 0.25 there",
            ),
            ("start", |run| run.record.initial_sha256 = "z".into(), "initial weights"),
            ("batches", |run| run.record.batches_sha256 = "z".into(), "batches"),
            (
                "end",
                |run| run.record.outcome = Outcome::Diverged { step: 3, reason: "of heat".into() },
                "the other diverged at step 3, because of heat",
            ),
            ("weights", |run| run.record.trajectory_sha256 = "z".into(), "loss 0.1"),
        ];
        for (address, change, _) in variants {
            let mut other = run();
            change(&mut other);
            a.save(address, &run()).unwrap();
            b.save(address, &other).unwrap();
        }
        a.save_prefix("state", &state(1.0)).unwrap();
        b.save_prefix("state", &state(-1.0)).unwrap();
        b.save("whole", &run()).unwrap();
        let merged = a.merge(&b).unwrap();
        assert_eq!((merged.copied, merged.known, merged.conflicts.len()), (1, 0, 6));
        for (address, _, expected) in variants {
            let conflict = merged.conflicts.iter().find(|conflict| conflict.address == address).unwrap();
            assert!(conflict.difference.contains(expected), "{conflict:?}");
            assert_eq!(a.load(address).unwrap(), Found::Whole(Box::new(run())));
        }
        assert_eq!(a.load_prefix("state").unwrap(), Found::Whole(Box::new(state(1.0))));
    }

    #[test]
    fn what_is_damaged_is_never_copied_and_is_replaced_where_it_is_whole_elsewhere() {
        let (_folder, a, b) = stores();
        for (store, address) in [(&a, "x"), (&a, "y"), (&b, "x"), (&b, "y")] {
            store.save(address, &run()).unwrap();
        }
        fs::write(a.path("x", RUN), "half a fi").unwrap();
        fs::write(b.path("y", RUN), "half a fi").unwrap();
        fs::write(b.path("z", RUN), "half a fi").unwrap();
        let merged = a.merge(&b).unwrap();
        assert_eq!((merged.copied, merged.known, merged.damaged.len()), (1, 0, 3));
        for address in ["x", "y"] {
            assert_eq!(a.load(address).unwrap(), Found::Whole(Box::new(run())));
        }
        assert_eq!(a.load("z").unwrap(), Found::Nothing);
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_has_the_permissions_of_any_new_file() {
        let (folder, a, b) = stores();
        b.save("x", &run()).unwrap();
        a.merge(&b).unwrap();
        fs::write(folder.path().join("new"), "").unwrap();
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions(&a.path("x", RUN)), permissions(&folder.path().join("new")));
    }
}
