//! A share of a study, for one of several machines.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::Result;

use super::jobs::own_job;
use super::survey::Known;
use super::{Execution, Job, Observer, Phase, State, Survey};

/// One of several equal shares of a study, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

/// A share that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// It is not written as one.
    #[error(
        "--shard {0}: write 2/8 for the third of eight shares, auto for what the scheduler says of a job array, or auto/8 where it doesn't say how many there are"
    )]
    Unreadable(String),
    /// There are no shares.
    #[error("--shard {index}/0: a study has at least one share; write 0/1 for all of it")]
    NoShares {
        /// The number of the share.
        index: usize,
    },
    /// Shares are counted from 0.
    #[error("--shard {index}/{count}: shares are counted from 0, so the last one of {count} is {}/{count}", count - 1)]
    OutOfRange {
        /// The number of the share.
        index: usize,
        /// The number of shares.
        count: usize,
    },
    /// No scheduler has set a variable.
    #[error(
        "--shard auto: none of HQ_TASK_ID, JOB_COMPLETION_INDEX and SLURM_ARRAY_TASK_ID is set, so this is no job array; say which share of how many, as 2/8"
    )]
    NoArray,
    /// The scheduler does not say how many shares there are.
    #[error(
        "--shard auto: {0} says which share this is, and nothing says of how many; write auto/8, with the number of the array's tasks"
    )]
    NoCount(&'static str),
    /// A variable is no number.
    #[error("--shard auto: {name} is {value:?}, which is no number from 0")]
    NoNumber {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The numbers of an array's tasks have gaps.
    #[error(
        "--shard auto: the array's {count} tasks are numbered from {first} to {last} with gaps that nobody knows; number them evenly, or say which share of how many, as 2/8"
    )]
    Gaps {
        /// Number of tasks.
        count: usize,
        /// The first task's number.
        first: usize,
        /// The last one's.
        last: usize,
    },
}

/// The number of a task in an array of Slurm.
const SLURM: &str = "SLURM_ARRAY_TASK_ID";

impl Shard {
    /// The share of this number, from 0.
    ///
    /// # Errors
    /// Fails if there is no share of that number.
    pub fn new(index: usize, count: usize) -> Result<Self, ShardError> {
        match count {
            0 => Err(ShardError::NoShares { index }),
            _ if index >= count => Err(ShardError::OutOfRange { index, count }),
            _ => Ok(Self { index, count }),
        }
    }

    /// The share that is written as `2/8`, or that a scheduler's variables say: `auto`, or `auto/8` where they don't
    /// say how many there are.
    ///
    /// # Errors
    /// It is written in another way, is none of the shares, or the variables don't say it.
    pub fn read(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ShardError> {
        let unreadable = || ShardError::Unreadable(text.to_owned());
        let number = |text: &str| usize::from_str(text).map_err(|_| unreadable());
        match text.split_once('/') {
            None if text == "auto" => Self::of_array(None, variable),
            Some(("auto", count)) => Self::of_array(Some(number(count)?), variable),
            Some((index, count)) => Self::new(number(index)?, number(count)?),
            None => Err(unreadable()),
        }
    }

    /// HyperQueue's workers and Kubernetes' pods may run within an array of Slurm, so that the innermost one counts.
    fn of_array(count: Option<usize>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, ShardError> {
        let number = |name: &'static str| {
            let read = |value: String| {
                value.trim().parse::<usize>().map_err(|_| ShardError::NoNumber { name, value })
            };
            variable(name).map(read).transpose()
        };
        for name in ["HQ_TASK_ID", "JOB_COMPLETION_INDEX"] {
            if let Some(index) = number(name)? {
                return Self::new(index, count.ok_or(ShardError::NoCount(name))?);
            }
        }
        let id = number(SLURM)?.ok_or(ShardError::NoArray)?;
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let listed = number("SLURM_ARRAY_TASK_COUNT")?;
        let last = number("SLURM_ARRAY_TASK_MAX")?;
        let count = count.or(listed).ok_or(ShardError::NoCount(SLURM))?;
        if let (Some(listed), Some(last)) = (listed, last)
            && last.saturating_sub(first) / step + 1 != listed
        {
            return Err(ShardError::Gaps { count: listed, first, last });
        }
        Self::new(id.saturating_sub(first) / step, count)
    }

    /// Its number, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// The number of shares.
    pub fn count(self) -> usize {
        self.count
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Execution<'_> {
    /// Does the missing runs of a share of every phase, as far as possible, and returns the state of all runs.
    /// Measuring waits for the tuning of its arm, a round of a sequential study for the one before, and a run that
    /// continues from the base for the base's run.
    ///
    /// # Errors
    /// As [`results`](Execution::results).
    pub fn share(&self, shard: Shard, observer: &dyn Observer) -> Result<Survey> {
        let mut known = Known::default();
        loop {
            let survey = self.survey_with(&mut known)?;
            let of_runs = self.shares(&survey.phases, shard.count)?;
            let mut mine = survey.phases.iter().zip(of_runs).map(|(phase, of_runs)| {
                let is_mine = |(run, of_run): ((Job, State), usize)| (of_run == shard.index).then_some(run);
                Phase {
                    runs: phase.runs.iter().copied().zip(of_runs).filter_map(is_mine).collect(),
                    ..*phase
                }
            });
            let Some(phase) = mine.find(|phase| !phase.missing().is_empty()) else { return Ok(survey) };
            self.do_missing(&phase, &mut known, observer)?;
        }
    }

    /// By phase and run, the share that does it.
    ///
    /// Every share has nearly the same number of runs of every task, and of the base. The order does not depend on arms
    /// and seeds, so that the missing runs of a study that has grown are spread as well. A run that continues from the
    /// base belongs to the share of the base's run, which keeps the state for it.
    fn shares(&self, phases: &[Phase], count: usize) -> Result<Vec<Vec<usize>>> {
        let mut of_base = BTreeMap::new();
        let mut shares = Vec::new();
        for phase in phases {
            let mut of_run = vec![0; phase.runs.len()];
            if phase.name == "forking" {
                for ((job, _), share) in phase.runs.iter().zip(&mut of_run) {
                    *share = of_base.get(&(job.task, job.seed)).copied().unwrap_or(0);
                }
            } else {
                let mut order = Vec::new();
                for (index, (job, _)) in phase.runs.iter().enumerate() {
                    order.push((job.task, job.arm > 0, self.settled(phase, job)?, index));
                }
                order.sort();
                for (rank, (task, _, _, index)) in order.into_iter().enumerate() {
                    of_run[index] = rank % count;
                    let job = &phase.runs[index].0;
                    if *job == own_job(task, 0, job.seed) {
                        of_base.insert((task, job.seed), rank % count);
                    }
                }
            }
            shares.push(of_run);
        }
        Ok(shares)
    }

    /// An address that a run has before its tuning is done, and after.
    fn settled(&self, phase: &Phase, job: &Job) -> Result<String> {
        let setting = job.setting.filter(|_| phase.name == "tuning");
        self.address(&Job { setting, ..*job })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Shard, ShardError> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Shard::read(text, &variable)
    }

    #[test]
    fn a_share_is_written_or_said_by_a_scheduler() {
        let shard = |index, count| Ok(Shard { index, count });
        assert_eq!(read("2/8", &[]), shard(2, 8));
        assert_eq!(read("0/1", &[("HQ_TASK_ID", "5")]), shard(0, 1));
        assert_eq!(read("auto/8", &[("HQ_TASK_ID", "5")]), shard(5, 8));
        assert_eq!(read("auto/8", &[("JOB_COMPLETION_INDEX", "7")]), shard(7, 8));
        let slurm = |id, first, last, count, step| {
            let variables = [
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", first),
                ("SLURM_ARRAY_TASK_MAX", last),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_STEP", step),
            ];
            read("auto", &variables)
        };
        assert_eq!(slurm("0", "0", "7", "8", "1"), shard(0, 8));
        assert_eq!(slurm("8", "1", "8", "8", "1"), shard(7, 8)); // --array=1-8
        assert_eq!(slurm("9", "5", "11", "4", "2"), shard(2, 4)); // --array=5-11:2
        assert_eq!(slurm("9", "0", "9", "3", "1"), Err(ShardError::Gaps { count: 3, first: 0, last: 9 }));
        // The worker that does the task was started within an array.
        let inner = [("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("HQ_TASK_ID", "1")];
        assert_eq!(read("auto/2", &inner), shard(1, 2));
    }

    #[test]
    fn a_share_that_cannot_be_is_an_error_that_says_what_to_write() {
        assert_eq!(read("8/8", &[]), Err(ShardError::OutOfRange { index: 8, count: 8 }));
        assert_eq!(read("0/0", &[]), Err(ShardError::NoShares { index: 0 }));
        assert_eq!(
            read("auto/8", &[("HQ_TASK_ID", "8")]),
            Err(ShardError::OutOfRange { index: 8, count: 8 })
        );
        assert_eq!(read("auto", &[]), Err(ShardError::NoArray));
        assert_eq!(read("auto", &[("HQ_TASK_ID", "1")]), Err(ShardError::NoCount("HQ_TASK_ID")));
        assert_eq!(read("auto", &[("SLURM_ARRAY_TASK_ID", "1")]), Err(ShardError::NoCount(SLURM)));
        let value = "4294967294x".to_owned();
        assert_eq!(
            read("auto", &[("SLURM_ARRAY_TASK_ID", &value)]),
            Err(ShardError::NoNumber { name: SLURM, value })
        );
        for text in ["", "3", "/8", "1/", "-1/8", "1/8/9", "one/two", "auto/", "auto/x"] {
            assert_eq!(read(text, &[]), Err(ShardError::Unreadable(text.to_owned())), "{text}");
        }
        let message = ShardError::OutOfRange { index: 8, count: 8 }.to_string();
        assert!(message.contains("the last one of 8 is 7/8"), "{message}");
    }
}
