//! Names of runs, for people who have an address.

use anyhow::Result;

use super::jobs::{own_job, repeats};
use super::{Execution, Job, grid};

impl Execution<'_> {
    /// Content of an address: a run that the study may have, whatever tuning chooses, or a state of its base.
    ///
    /// # Errors
    /// An arm is none of its task.
    pub fn name(&self, address: &str) -> Result<Option<String>> {
        let study = self.study;
        for (task, planned) in study.tasks.iter().enumerate() {
            for (arm, of_arm) in study.arms.iter().enumerate() {
                let settings: Vec<_> = grid(of_arm, &study.file.tuning.rates).into_iter().map(Some).collect();
                let own = (0..study.file.seeds as u64).map(|seed| own_job(task, arm, seed));
                let again = (0..repeats(study, planned) as u64).filter(|_| arm == 0);
                let again = again.map(|seed| Job { repeat: 1, ..own_job(task, arm, seed) });
                let reported: Vec<Job> = own.chain(again).collect();
                let reported = if settings.is_empty() {
                    reported
                } else {
                    let tuned = |job: Job| settings.iter().map(move |&setting| Job { setting, ..job });
                    reported.into_iter().flat_map(tuned).collect()
                };
                for job in reported {
                    if self.address(&job)? == address {
                        return Ok(Some(self.describe(&job)));
                    }
                }
            }
            for (seed, step) in (0..study.file.seeds as u64)
                .flat_map(|seed| planned.forks.iter().map(move |step| (seed, *step)))
            {
                if step > 0 && self.prefix_address(task, seed, step)? == address {
                    let own = self.describe(&own_job(task, 0, seed));
                    return Ok(Some(format!("{own}, its state after {step} steps")));
                }
            }
        }
        for job in self.tuning_jobs().into_iter().chain(self.forked_jobs()) {
            if self.address(&job)? == address {
                return Ok(Some(self.describe(&job)));
            }
        }
        Ok(None)
    }

    fn describe(&self, job: &Job) -> String {
        let study = self.study;
        let mut name = format!(
            "task {}, arm {}, seed {}",
            study.tasks[job.task].name, study.arms[job.arm].arm.name, job.seed
        );
        if let Some(setting) = job.setting {
            name += &format!(", learning rate {}", setting.learning_rate);
        }
        if let Some(step) = job.fork {
            name += &format!(", from step {step} of the base");
        }
        if job.repeat > 0 {
            name += ", once more";
        }
        name
    }
}
