//! Indexed jobs of Kubernetes.

use std::fmt::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::Jobs;

/// Where the volume is in a container.
const MOUNT: &str = "/study";

/// The longest name that leaves room for a phase's: 63 letters are allowed.
const LONGEST: usize = 40;

/// A script that sends an indexed job for every phase when the one before has ended, as Kubernetes knows of no order of
/// jobs, and one that writes the report.
pub(super) fn script(jobs: &Jobs, image: &str, volume: &str) -> Result<String> {
    let name = name(&jobs.name);
    let mut script = format!(
        "#!/bin/sh\n# {name} in {} shares: {}, and the report at the end. It ends when they have.\nset -eu\n",
        jobs.shards,
        jobs.arrays.join(", ")
    );
    let get = jobs.words(
        &["kubectl"],
        &["get", "--output=jsonpath={.status.conditions[?(@.status==\"True\")].type}"],
    )?;
    let wait = jobs.words(&["kubectl"], &["wait", "--for=condition=complete", "--timeout=10s"])?;
    writeln!(
        script,
        "ended() {{\n  until {get} \"job/$1\" | grep -Eq 'Complete|Failed'; do sleep 10; done\n  {wait} \"job/$1\"\n}}"
    )?;
    let create = jobs.words(&["kubectl"], &["create", "--filename=-"])?;
    let report = "report".to_owned();
    for (index, array) in jobs.arrays.iter().chain([&report]).enumerate() {
        let is_report = index == jobs.arrays.len();
        let (count, command) = if is_report {
            (1, jobs.command.clone())
        } else {
            (jobs.shards, jobs.share(&format!("auto/{}", jobs.shards)))
        };
        let job = job(&format!("{name}-{array}"), (count, jobs.threads), &command, (image, volume));
        writeln!(
            script,
            "{create} <<'END_OF_JOB'\n{}\nEND_OF_JOB\nended {name}-{array}",
            serde_json::to_string_pretty(&job)?
        )?;
    }
    Ok(script)
}

fn job(name: &str, (count, threads): (u32, u32), command: &[String], (image, volume): (&str, &str)) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "name": name },
        "spec": {
            "completions": count,
            "parallelism": count,
            "completionMode": "Indexed",
            "template": { "spec": {
                "restartPolicy": "OnFailure",
                "containers": [{
                    "name": "share",
                    "image": image,
                    "command": command,
                    "workingDir": MOUNT,
                    "resources": { "requests": { "cpu": threads.to_string() } },
                    "volumeMounts": [{ "name": "study", "mountPath": MOUNT }],
                }],
                "volumes": [{ "name": "study", "persistentVolumeClaim": { "claimName": volume } }],
            } },
        },
    })
}

/// A name as Kubernetes takes it: small letters, digits and hyphens.
fn name(study: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = study.chars().map(plain).take(LONGEST).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "study".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_is_one_that_kubernetes_takes() {
        for (study, expected) in
            [("my", "my"), ("My study_2.0", "my-study-2-0"), ("-ä-", "study"), ("", "study")]
        {
            assert_eq!(name(study), expected);
        }
        assert_eq!(name(&"x".repeat(100)).len(), 40);
    }
}
