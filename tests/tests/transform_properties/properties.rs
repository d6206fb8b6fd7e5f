//! What every transform has to have, whatever it does; and the equivariances, where a row says that it has them.

use std::any::Any;
use std::collections::BTreeSet;

use conformance::pair::Stored;
use gradient_transform::{
    Context, Error, Link, Optimizer, Parameter, Real, RestoreOptions, Restored, Role, Snapshot, SplitGroups,
    StateSpec, Storage, TensorInfo, Tile,
};
use half::bf16;
use ndarray::ArrayD;

use super::problem::{
    Boxed, Deviation, Problem, Running, STEPS, TILED, Trajectory, deviation, permuted, trajectory,
};

/// What becomes of a trajectory when everything is multiplied by a power of two, which rounds nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Gradients that are multiplied change nothing, once they are large enough for what is added to or compared with
    /// them to vanish.
    Invariant,
    /// If gradients and parameters are multiplied, so is the trajectory.
    Linear,
}

/// What becomes of a trajectory when the slices along the first axis are permuted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Permutation {
    /// They move as before, to the bit: nothing but elements, or counts of them.
    Exact,
    /// They move as before, but sums are taken in another order.
    Within(f64),
    /// Other elements are looked at, so the trajectory is another one.
    Changes,
}

/// What a gradient of zero does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Zero {
    /// The parameter stands still, and Schedule-Free's z.
    StandsStill,
    /// z stands still, and the parameter goes on towards it.
    Averages,
    /// It moves nevertheless.
    Moves,
    /// At first it stands still. After other gradients it moves on.
    MovesOn,
    /// At first it stands still. After other gradients it moves once more.
    Rebounds,
}

/// A transform in a chain around it, and which laws hold for that chain.
///
/// A value and no trait, so that what is tested is compiled once, and not for every row.
pub(crate) struct Row {
    /// Learning rate.
    pub(crate) lr: f64,
    pub(crate) scale: Scale,
    pub(crate) permutation: Permutation,
    pub(crate) zero: Zero,
    /// How far float32 may be from float64, relative to the way come, beyond the rounding of the parameter itself. 1e-6 are
    /// 16 units of float32, two for each step.
    pub(crate) float32: f64,
    pub(crate) single: Chains<f32>,
    pub(crate) double: Chains<f64>,
    /// The names of the transform and of what stands in for it.
    pub(crate) toggled: fn() -> Vec<String>,
    /// The same chain in plain formulas.
    pub(crate) naive: fn(&Problem) -> Trajectory,
}

/// The chain of a row, in one type.
pub(crate) struct Chains<T> {
    /// As a tuple, with the transform switched on or off by an `Option`. Switched off, what is to stand in
    /// for it, if anything is, is switched on by another.
    pub(crate) chain: fn(bool) -> Boxed<T>,
    /// The members of the chain with the transform, each in a box.
    pub(crate) members: fn() -> Vec<Boxed<T>>,
    /// The chain that has no `Option` and not the transform.
    pub(crate) without: fn() -> Boxed<T>,
}

impl Row {
    fn chains<T: Real>(&self) -> &Chains<T> {
        let both: [&dyn Any; 2] = [&self.single, &self.double];
        both.into_iter().find_map(<dyn Any>::downcast_ref).unwrap()
    }

    fn chain<T: Real>(&self, on: bool) -> Boxed<T> {
        (self.chains().chain)(on)
    }

    fn members<T: Real>(&self) -> Vec<Boxed<T>> {
        (self.chains().members)()
    }

    fn without<T: Real>(&self) -> Boxed<T> {
        (self.chains().without)()
    }
}

fn running<T: Real, E: Stored>(row: &Row, problem: &Problem) -> Running<T, E> {
    Running::new(row.chain(true), row.lr, problem)
}

/// The trajectory of a row's chain in float32.
fn single(row: &Row, problem: &Problem) -> Trajectory {
    trajectory::<f32, f32>(row.chain(true), row.lr, problem)
}

#[track_caller]
fn assert_finite(trajectory: &Trajectory) {
    for (t, step) in trajectory.iter().enumerate() {
        for (i, tensor) in step.iter().enumerate() {
            assert!(tensor.iter().all(|x| x.is_finite()), "step {}, tensor {i}: {tensor}", t + 1);
        }
    }
}

#[track_caller]
fn assert_same(ours: &Trajectory, expected: &Trajectory) {
    assert_eq!(ours.len(), expected.len());
    for (t, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let differ = ours.iter().zip(expected).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "step {}, tensor {i}: elements that differ", t + 1);
        }
    }
}

#[track_caller]
fn assert_within(what: &str, found: &Deviation, tolerance: f64) {
    let Deviation { step, tensor, relative } = found;
    assert!(*relative <= tolerance, "{what}: off by {relative:e} in tensor {tensor} at step {step}");
}

fn mapped(trajectory: &Trajectory, f: impl Fn(&ArrayD<f64>) -> ArrayD<f64>) -> Trajectory {
    trajectory.iter().map(|step| step.iter().map(&f).collect()).collect()
}

/// Saved as bytes and loaded into another optimizer in the middle, a run goes on as if nothing had happened.
pub(crate) fn round_trips_through_bytes<T: Real, E: Stored>(row: &Row) {
    let problem = Problem::new();
    let (before, after) = problem.gradients.split_at(STEPS / 2);
    let mut through = running::<T, E>(row, &problem);
    before.iter().for_each(|g| through.step(g));

    let mut resumed = running::<T, E>(row, &problem);
    resumed.values.clone_from(&through.values);
    let bytes = checkpoint::to_bytes(&through.optimizer).unwrap();
    let restored = checkpoint::from_bytes(&bytes, &mut resumed.optimizer).unwrap();
    assert_eq!(restored, Restored::default(), "nothing is missing, nothing too much");
    assert_eq!(resumed.optimizer.snapshot(), through.optimizer.snapshot());
    let json = serde_json::to_vec(&through.optimizer.snapshot()).unwrap();
    assert_eq!(serde_json::from_slice::<Snapshot>(&json).unwrap(), through.optimizer.snapshot());
    for gradients in after {
        let start = through.everything().0;
        through.step(gradients);
        resumed.step(gradients);
        assert!(through.everything() == resumed.everything());
        assert_ne!(start, resumed.everything().0, "nothing moved, so nothing was tested");
    }
}

pub(crate) fn follows_its_law_of_scale(row: &Row) {
    let problem = Problem::new();
    match row.scale {
        Scale::Invariant => {
            let large = single(row, &problem.scaled(1.0, 256.0));
            assert_finite(&large);
            assert_same(&single(row, &problem.scaled(1.0, 2048.0)), &large);
        }
        Scale::Linear => {
            let plain = single(row, &problem);
            assert_finite(&plain);
            for factor in [8.0, 0.125] {
                assert_same(&single(row, &problem.scaled(factor, factor)), &mapped(&plain, |y| y * factor));
            }
        }
    }
}

/// No transform prefers a direction: with gradients and parameters negated, everything is, to the bit, even under
/// stochastic rounding, which rounds magnitudes.
pub(crate) fn is_odd(row: &Row) {
    let problem = Problem::new();
    let negated = problem.scaled(-1.0, -1.0);
    assert_same(&single(row, &negated), &mapped(&single(row, &problem), |y| -y));
    let narrow = |problem| trajectory::<f32, bf16>(row.chain(true), row.lr, problem);
    assert_same(&narrow(&negated), &mapped(&narrow(&problem), |y| -y));
}

/// The base iterates: Schedule-Free's z, or else the parameters themselves.
fn base(at_work: &Running<f32, f32>) -> Vec<Vec<f64>> {
    let snapshot = at_work.optimizer.snapshot();
    let one = |(name, value): (&str, &ArrayD<f32>)| {
        let z = snapshot.tensors.get(name).and_then(|t| t.arrays.get("schedule-free/z"));
        match z {
            Some(z) => (0..z.len()).map(|i| z.get(i)).collect(),
            None => value.iter().map(|&x| f64::from(x)).collect(),
        }
    };
    at_work.optimizer.names().zip(&at_work.values).map(one).collect()
}

pub(crate) fn survives_zero_gradients(row: &Row) {
    for from in [0, 3] {
        let problem = Problem::new().without_gradients_from(from);
        let mut at_work = running::<f32, f32>(row, &problem);
        let mut path = Vec::new();
        for (t, gradients) in problem.gradients.iter().enumerate() {
            let (y, z) = (at_work.wide(), base(&at_work));
            at_work.step(gradients);
            if t >= from {
                let stood = (at_work.wide() == y, base(&at_work) == z);
                let expected = match row.zero {
                    Zero::StandsStill => (true, true),
                    // At first there is nowhere to go.
                    Zero::Averages => (from == 0, true),
                    Zero::Moves => (false, false),
                    Zero::MovesOn => (from == 0, from == 0),
                    Zero::Rebounds => (from == 0 || t > from, from == 0 || t > from),
                };
                assert_eq!(stood, expected, "y and z stand in step {} of zeros from {from} on", t + 1);
            }
            path.push(at_work.wide());
        }
        assert_finite(&path);
        let estimate = at_work.optimizer.estimate(0).unwrap();
        assert!(estimate.d.is_finite() && estimate.d >= estimate.d0, "{estimate:?}");
        if from == 0 {
            // Nothing has been learnt about the distance.
            assert_eq!(estimate.d, estimate.d0);
        }
    }
    // Rows and columns of zeros, whose means are zero, in gradients that aren't.
    let mut problem = Problem::new();
    for gradient in problem.gradients.iter_mut().flatten().filter(|g| g.ndim() > 1) {
        gradient.index_axis_mut(ndarray::Axis(0), 1).fill(0.0);
        gradient.index_axis_mut(ndarray::Axis(1), 2).fill(0.0);
    }
    assert_finite(&single(row, &problem));
}

pub(crate) fn follows_its_law_of_permutation(row: &Row) {
    let problem = Problem::new();
    let plain = mapped(&single(row, &problem), permuted);
    let of_permuted = problem.permuted();
    let ours = single(row, &of_permuted);
    let found = deviation(&ours, &plain, &of_permuted.init, 0.0);
    match row.permutation {
        Permutation::Exact => assert_same(&ours, &plain),
        Permutation::Within(tolerance) => assert_within("permuted", &found, tolerance),
        Permutation::Changes => assert!(found.relative > 1e-3, "it changed by {:e} only", found.relative),
    }
}

pub(crate) fn is_the_same_in_float32_and_float64(row: &Row) {
    let problem = Problem::new();
    let double = trajectory::<f64, f64>(row.chain(true), row.lr, &problem);
    let found = deviation(&single(row, &problem), &double, &problem.init, f32::UNIT);
    assert_within("float32", &found, row.float32);
}

pub(crate) fn is_its_formula(row: &Row) {
    let problem = Problem::new();
    let ours = trajectory::<f64, f64>(row.chain(true), row.lr, &problem);
    let formula = (row.naive)(&problem);
    assert_finite(&formula);
    for (tensor, start) in problem.init.iter().enumerate().filter(|(_, start)| start.len() > 1) {
        // Not the end alone: a sign may lead as far back as it led away.
        let moved = |step: &Vec<ArrayD<f64>>| step[tensor].iter().zip(start).all(|(y, start)| y != start);
        assert!(formula.iter().any(moved), "some of tensor {tensor} never moves, so little is tested");
    }
    // What is left are sums in another order: units in the last place of float64, and in Muon's iterations up to 3.4^6
    // of them.
    assert_within("formula", &deviation(&ours, &formula, &problem.init, f64::UNIT), 1e-13);

    // And where tensors are longer than a tile, with sums of thousands of terms.
    let tiled = Problem::of(&TILED, 3);
    let found = trajectory::<f64, f64>(row.chain(true), row.lr, &tiled);
    assert_within("beyond a tile", &deviation(&found, &(row.naive)(&tiled), &tiled.init, f64::UNIT), 1e-12);
}

fn none_changes_nothing_in<E: Stored>(row: &Row, problem: &Problem) {
    let mut off = Running::<f32, E>::new(row.chain(false), row.lr, problem);
    let mut without = Running::<f32, E>::new(row.without(), row.lr, problem);
    for gradients in &problem.gradients {
        off.step(gradients);
        without.step(gradients);
        assert!(off.everything() == without.everything());
    }
}

pub(crate) fn none_is_the_identity(row: &Row) {
    let problem = Problem::new();
    none_changes_nothing_in::<f32>(row, &problem);
    none_changes_nothing_in::<bf16>(row, &problem);
    // And the row is about a transform that does something.
    assert_ne!(
        single(row, &problem),
        trajectory::<f32, f32>(row.without(), row.lr, &problem),
        "the transform changes nothing here"
    );
}

/// Changes nothing, in one of the ways in which something could make a sweep's tiles shorter, or sweeps more.
#[derive(Clone, Copy, Debug)]
struct Identity {
    columns: usize,
    role: Role,
    behind_the_writer: bool,
}

impl<T: Real> Link<T> for Identity {
    fn name(&self) -> &str {
        "identity"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        self.role
    }

    fn tempers_displacement(&self) -> bool {
        self.behind_the_writer
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        let names = ["first", "second", "third"];
        names[..self.columns].iter().fold(StateSpec::new(), |spec, name| spec.column(name, Storage::Compute))
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        // It writes, so that what is read where the gradient lies would no longer be.
        tile.update.map(|u| u);
    }
}

/// Everything after the problem's steps, but for what belongs to identities.
fn but_for_identities<T: Real, E: Stored>(
    mut running: Running<T, E>,
    problem: &Problem,
) -> (Vec<Vec<u64>>, Snapshot) {
    problem.gradients.iter().for_each(|gradients| running.step(gradients));
    let (bits, mut snapshot) = running.everything();
    for tensor in snapshot.tensors.values_mut() {
        tensor.arrays.retain(|key, _| !key.starts_with("identity/"));
    }
    for group in &mut snapshot.groups {
        group.transforms.retain(|transform| !transform.starts_with("Identity"));
    }
    (bits, snapshot)
}

/// An identity at every place of a chain, in every way: parameters, and all state but its own.
pub(crate) fn identities_change_nothing_in<T: Real, E: Stored>(
    members: &dyn Fn() -> Vec<Boxed<T>>,
    lr: f64,
    problem: &Problem,
) {
    let run = |chain: Vec<Boxed<T>>| {
        but_for_identities(Running::<T, E>::new(Box::new(chain), lr, problem), problem)
    };
    let plain = run(members());
    let writer = members().iter().position(|member| (**member).writer().is_some()).unwrap();
    for place in 0..=members().len() {
        let behind_the_writer = place > writer;
        for (columns, role) in [(0, Role::Map), (3, Role::Map), (0, Role::Reduce)] {
            let mut chain = members();
            chain.insert(place, Box::new(Identity { columns, role, behind_the_writer }));
            let found = run(chain);
            let differ =
                found.0.iter().flatten().zip(plain.0.iter().flatten()).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "elements that differ with a {role:?} of {columns} columns at {place}");
            assert!(found.1 == plain.1, "state differs with a {role:?} of {columns} columns at {place}");
        }
    }
}

pub(crate) fn an_identity_changes_no_bit(row: &Row) {
    let problem = Problem::of(&TILED, 3);
    identities_change_nothing_in::<f32, f32>(&|| row.members(), row.lr, &problem);
    identities_change_nothing_in::<f32, bf16>(&|| row.members(), row.lr, &problem);
    identities_change_nothing_in::<f64, f64>(&|| row.members(), row.lr, &problem);
}

/// An identity at every place of the chain of one group, beside another group with the same chain or under one estimate with it.
pub(crate) fn an_identity_in_one_group_changes_no_bit_of_either(row: &Row) {
    let problem = Problem::new();
    let writer = row.members::<f32>().iter().position(|member| (**member).writer().is_some()).unwrap();
    for split_groups in [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint] {
        let run = |chains: [Vec<Boxed<f32>>; 2]| {
            let chains = chains.into_iter().map(|chain| Box::new(chain) as Boxed<f32>).collect();
            let running = Running::<f32, f32>::in_groups(chains, split_groups, row.lr, &problem);
            but_for_identities(running, &problem)
        };
        let plain = run([row.members(), row.members()]);
        for (group, place) in
            (0..2).flat_map(|group| (0..=row.members::<f32>().len()).map(move |p| (group, p)))
        {
            let mut chains = [row.members(), row.members()];
            let identity = Identity { columns: 1, role: Role::Map, behind_the_writer: place > writer };
            chains[group].insert(place, Box::new(identity));
            assert!(run(chains) == plain, "{split_groups:?}, at {place} of group {group}");
        }
    }
}

/// Checkpoint keys and numbers that don't belong to the transforms that are switched.
fn of_others(snapshot: &Snapshot, toggled: &[String]) -> BTreeSet<String> {
    let other = |key: &&String| !toggled.iter().any(|name| key.starts_with(&format!("{name}/")));
    let arrays = snapshot.tensors.iter().flat_map(|(tensor, saved)| {
        saved
            .arrays
            .iter()
            .filter(move |(key, _)| other(key))
            .map(move |(key, array)| format!("{tensor}: {key}, {} of {}", array.len(), array.dtype()))
    });
    let scalars = snapshot
        .groups
        .iter()
        .flat_map(|g| g.scalars.keys())
        .filter(other)
        .map(|key| format!("group: {key}"));
    arrays.chain(scalars).collect()
}

fn without_gradients(values: &mut [ArrayD<f32>]) -> Vec<Parameter<'_>> {
    values.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect()
}

pub(crate) fn toggling_it_leaves_the_others_state_alone(row: &Row) {
    let problem = Problem::new();
    let toggled = (row.toggled)();
    let [mut on, mut off] = [true, false].map(|on| Running::<f32, f32>::new(row.chain(on), row.lr, &problem));
    for gradients in &problem.gradients[..3] {
        on.step(gradients);
        off.step(gradients);
    }
    let (with, without) = (on.optimizer.snapshot(), off.optimizer.snapshot());
    assert_eq!(of_others(&with, &toggled), of_others(&without, &toggled));
    // Another chain takes the others' state over as it is, from a checkpoint or in place.
    let shared = |snapshot: &Snapshot| {
        let mut snapshot = snapshot.clone();
        let own = |key: &String| toggled.iter().any(|name| key.starts_with(&format!("{name}/")));
        for tensor in snapshot.tensors.values_mut() {
            tensor.arrays.retain(|key, _| !own(key));
        }
        snapshot.groups[0].scalars.retain(|key, _| !own(key));
        (snapshot.tensors, snapshot.groups[0].scalars.clone())
    };
    // The parameters move where only one of the two averages.
    let Running { optimizer, values, .. } = &mut off;
    let mut parameters = without_gradients(values);
    let options = RestoreOptions { parameters: Some(&mut parameters), ..RestoreOptions::default() };
    optimizer.restore_with(with.clone(), options).unwrap();
    assert!(shared(&off.optimizer.snapshot()) == shared(&with));
    let Running { optimizer, values, .. } = &mut on;
    optimizer.replace_chain_with(0, row.chain(false), &mut without_gradients(values)).unwrap();
    assert!(shared(&on.optimizer.snapshot()) == shared(&with));
}

pub(crate) fn boxed_is_as_a_tuple(row: &Row) {
    let problem = Problem::new();
    for gradients_in in [false, true] {
        let run = |chain: Boxed<f32>| {
            if gradients_in {
                let mut running = Running::<f32, bf16>::new(chain, row.lr, &problem);
                problem.gradients.iter().for_each(|g| running.step(g));
                running.everything()
            } else {
                let mut running = Running::<f32, f32>::new(chain, row.lr, &problem);
                problem.gradients.iter().for_each(|g| running.step(g));
                running.everything()
            }
        };
        assert!(run(Box::new(row.members())) == run(row.chain(true)));
    }
}

pub(crate) fn parameters_may_come_one_by_one<E: Stored>(row: &Row) {
    let problem = Problem::new();
    let mut together = running::<f32, E>(row, &problem);
    let mut one_by_one = running::<f32, E>(row, &problem);
    for gradients in &problem.gradients {
        together.step(gradients);
        one_by_one.step_one_by_one(gradients);
        assert!(together.everything() == one_by_one.everything());
    }
}

/// A chain in which a transform occurs twice is refused.
pub(crate) fn occurs_once(row: &Row) {
    let chain: Vec<Boxed<f32>> = vec![Box::new(row.members()), Box::new(row.members())];
    let refused = Optimizer::new(chain, [("w", &[2, 2][..])]).err();
    assert!(matches!(refused, Some(Error::InvalidChain { .. })), "{refused:?}");
}
