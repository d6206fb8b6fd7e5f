//! Tasks of HyperQueue.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{Jobs, quoted};

/// A job's definition, as HyperQueue reads it.
#[derive(Serialize)]
struct Definition {
    name: String,
    task: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    id: u32,
    cwd: String,
    command: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deps: Vec<u32>,
    request: Vec<Request>,
}

#[derive(Serialize)]
struct Request {
    resources: BTreeMap<&'static str, String>,
}

/// A script that sends one job, whose tasks are the shares of every phase, each after all of the phase before, and the
/// report.
pub(super) fn script(jobs: &Jobs) -> Result<String> {
    let mut tasks = Vec::new();
    let add = |command: Vec<String>, deps: Vec<u32>, tasks: &mut Vec<Task>| {
        let resources = [("cpus", jobs.threads.to_string())].into();
        let (id, cwd) = (tasks.len() as u32, jobs.folder.clone());
        tasks.push(Task { id, cwd, command, deps, request: vec![Request { resources }] });
    };
    let mut before = Vec::new();
    for _array in &jobs.arrays {
        let first = tasks.len() as u32;
        for index in 0..jobs.shards {
            add(jobs.share(&format!("{index}/{}", jobs.shards)), before.clone(), &mut tasks);
        }
        before = (first..first + jobs.shards).collect();
    }
    add(jobs.command.clone(), before, &mut tasks);
    let definition = toml::to_string(&Definition { name: jobs.name.clone(), task: tasks })?;
    let submit = jobs.words(&["hq", "job", "submit-file"], &["/dev/stdin"])?;
    Ok(format!(
        "#!/bin/sh\n# {} in {} shares: {}, and the report at the end.\nset -eu\ncd {}\n{submit} <<'END_OF_JOB'\n{definition}END_OF_JOB\n",
        jobs.name.replace(char::is_control, " "),
        jobs.shards,
        jobs.arrays.join(", "),
        quoted([jobs.folder.as_str()])?,
    ))
}
