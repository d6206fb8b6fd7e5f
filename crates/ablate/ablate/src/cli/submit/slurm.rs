//! Job arrays of Slurm.

use std::fmt::Write;

use anyhow::Result;

use super::{Jobs, quoted};

/// A script that sends an array for every phase, each after all of the one before, and a job that writes the report.
pub(super) fn script(jobs: &Jobs) -> Result<String> {
    let mut script = format!(
        "#!/bin/sh\n# {} in {} shares: an array for every phase that is not done, and the report at the end.\nset -eu\ncd {}\n",
        jobs.name.replace(char::is_control, " "),
        jobs.shards,
        quoted([jobs.folder.as_str()])?
    );
    let cores = format!("--cpus-per-task={}", jobs.threads);
    let tasks = format!("--array=0-{}", jobs.shards - 1);
    let mut before: Option<String> = None;
    let report = "report".to_owned();
    for (index, array) in jobs.arrays.iter().chain([&report]).enumerate() {
        let is_report = index == jobs.arrays.len();
        let command = if is_report { jobs.command.clone() } else { jobs.share("auto") };
        let wrapped = format!("exec {}", quoted(command.iter().map(String::as_str))?);
        let name = format!("--job-name={}-{array}", jobs.name);
        let mut more = vec![name.as_str(), "--ntasks=1", &cores, "--requeue"];
        if !is_report {
            more.push(&tasks);
        }
        let start = jobs.words(&["sbatch", "--parsable"], &more)?;
        // With several clusters, the number has a name behind it.
        let after = before.map_or(String::new(), |before| {
            format!(" --dependency=\"afterok:${{{before}%%;*}}\" --kill-on-invalid-dep=yes")
        });
        let variable = format!("job_{index}");
        writeln!(script, "{variable}=$({start}{after} --wrap={})", quoted([wrapped.as_str()])?)?;
        writeln!(script, "echo \"{array}: ${variable}\"")?;
        before = Some(variable);
    }
    Ok(script)
}
