//! Laws of state: a run continues from saved state, and state belongs to its transform.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use gradient_transform::{Parameter, RestoreOptions, Restored, Snapshot};
use ndarray::ArrayD;

use super::running;
use crate::number::Number;
use crate::problem::{Problem, STEPS};
use crate::row::{OfRow, Row};
use crate::running::Running;

pub(crate) fn round_trips_through_bytes<T: OfRow, E: Number>(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let half = STEPS / 2;
    let mut through = running::<T, E>(row, &problem)?;
    problem.steps().take(half).try_for_each(|step| through.step(step))?;

    let mut resumed = running::<T, E>(row, &problem)?;
    resumed.values.clone_from(&through.values);
    let bytes = checkpoint::to_bytes(&through.optimizer)?;
    let restored = checkpoint::from_bytes(&bytes, &mut resumed.optimizer)?;
    ensure!(restored == Restored::default(), "arrays are missing or not used: {restored:?}");
    let snapshot = through.optimizer.snapshot();
    ensure!(resumed.optimizer.snapshot() == snapshot, "the loaded state differs from the saved state");
    let read: Snapshot = serde_json::from_slice(&serde_json::to_vec(&snapshot)?)?;
    ensure!(read == snapshot, "the state read from JSON differs from the state written");
    for (t, step) in (1..).zip(problem.steps()).skip(half) {
        let start = through.everything().0;
        through.step(step)?;
        resumed.step(step)?;
        let found = through.everything();
        ensure!(found == resumed.everything(), "the resumed run differs after step {t}");
        ensure!(start != found.0, "nothing moves in step {t}, so nothing is tested");
    }
    Ok(())
}

fn is_of(key: &str, toggled: &[String]) -> bool {
    toggled.iter().any(|name| key.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/')))
}

/// Checkpoint keys and numbers that don't belong to the transforms that are switched.
fn of_others(snapshot: &Snapshot, toggled: &[String]) -> BTreeSet<String> {
    let arrays = snapshot.tensors.iter().flat_map(|(tensor, saved)| {
        saved
            .arrays
            .iter()
            .filter(|(key, _)| !is_of(key, toggled))
            .map(move |(key, array)| format!("{tensor}: {key}, {} of {}", array.len(), array.dtype()))
    });
    let scalars = snapshot
        .groups
        .iter()
        .flat_map(|g| g.scalars.keys())
        .filter(|key| !is_of(key, toggled))
        .map(|key| format!("group: {key}"));
    arrays.chain(scalars).collect()
}

fn without_gradients(values: &mut [ArrayD<f32>]) -> Vec<Parameter<'_>> {
    values.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect()
}

pub(crate) fn toggling_it_leaves_the_others_state_alone(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let toggled = (row.toggled)();
    let run = |on| -> Result<Running<f32, f32>> {
        let mut running = Running::new(row.chain(on), row.laws.lr, &problem.init)?;
        problem.steps().take(3).try_for_each(|step| running.step(step))?;
        Ok(running)
    };
    let (mut on, mut off) = (run(true)?, run(false)?);
    let (with, without) = (on.optimizer.snapshot(), off.optimizer.snapshot());
    let (ours, theirs) = (of_others(&with, &toggled), of_others(&without, &toggled));
    ensure!(ours == theirs, "the others keep {ours:?} with it, and {theirs:?} without");
    // Another chain takes over the others' state unchanged, from a checkpoint or in place.
    let shared = |mut snapshot: Snapshot| {
        for tensor in snapshot.tensors.values_mut() {
            tensor.arrays.retain(|key, _| !is_of(key, &toggled));
        }
        for group in &mut snapshot.groups {
            group.scalars.retain(|key, _| !is_of(key, &toggled));
        }
        let scalars: Vec<_> = snapshot.groups.into_iter().map(|group| group.scalars).collect();
        (snapshot.tensors, scalars)
    };
    // The parameters move if only one of the two averages.
    let Running { optimizer, values } = &mut off;
    let mut parameters = without_gradients(values);
    let options = RestoreOptions { parameters: Some(&mut parameters), ..RestoreOptions::default() };
    optimizer.restore_with(with.clone(), options)?;
    let with = shared(with);
    ensure!(shared(off.optimizer.snapshot()) == with, "restored without it, the others' state differs");
    let Running { optimizer, values } = &mut on;
    optimizer.replace_chain_with(0, row.chain(false), &mut without_gradients(values))?;
    ensure!(
        shared(on.optimizer.snapshot()) == with,
        "when it is left out in place, the others' state changes"
    );
    Ok(())
}
