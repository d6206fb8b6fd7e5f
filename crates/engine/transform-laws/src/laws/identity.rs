//! Transforms that change nothing, anywhere in a chain.

use anyhow::{Context as _, Result, ensure};
use gradient_transform::{
    Context, Link, Real, Role, Snapshot, SplitGroups, StateSpec, Storage, TensorInfo, Tile,
};
use half::bf16;

use crate::law::{Broken, Law};
use crate::number::Number;
use crate::problem::{Problem, TILED};
use crate::row::{Boxed, Row};
use crate::running::Running;

/// Changes nothing, in one of the ways in which a transform could shorten a sweep's tiles or add sweeps.
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

    fn changes_displacement(&self) -> bool {
        self.behind_the_writer
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        let names = ["first", "second", "third"];
        let columns = names.iter().take(self.columns);
        columns.fold(StateSpec::new(), |spec, name| spec.column(name, Storage::Compute))
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        // It writes, so that the update is no longer in the gradient's memory.
        tile.update.map(|u| u);
    }
}

/// Everything after the problem's steps, except the state of identities.
fn but_for_identities<T: Real, E: Number>(
    mut running: Running<T, E>,
    problem: &Problem,
) -> Result<(Vec<Vec<u64>>, Snapshot)> {
    running.steps(problem)?;
    let (bits, mut snapshot) = running.everything();
    for tensor in snapshot.tensors.values_mut() {
        tensor.arrays.retain(|key, _| !key.starts_with("identity/"));
    }
    for group in &mut snapshot.groups {
        group.transforms.retain(|transform| !transform.starts_with("Identity"));
    }
    Ok((bits, snapshot))
}

fn writer<T: Real>(members: &[Boxed<T>]) -> Result<usize> {
    members.iter().position(|member| (**member).writer().is_some()).context("the chain has no writer")
}

fn nothing_changes<T: Real, E: Number>(
    members: &dyn Fn() -> Vec<Boxed<T>>,
    lr: f64,
    problem: &Problem,
) -> Result<()> {
    let run = |chain: Vec<Boxed<T>>| {
        but_for_identities(Running::<T, E>::new(Box::new(chain), lr, &problem.init)?, problem)
    };
    let plain = run(members())?;
    let (writer, len) = (writer(&members())?, members().len());
    for place in 0..=len {
        let behind_the_writer = place > writer;
        for (columns, role) in [(0, Role::Map), (3, Role::Map), (0, Role::Reduce)] {
            let mut chain = members();
            chain.insert(place, Box::new(Identity { columns, role, behind_the_writer }));
            let found = run(chain)?;
            let what = format!("with a {role:?} of {columns} columns at {place} in {}", E::DTYPE);
            let differ =
                found.0.iter().flatten().zip(plain.0.iter().flatten()).filter(|(a, b)| a != b).count();
            ensure!(differ == 0, "{differ} elements differ {what}");
            ensure!(found.1 == plain.1, "state differs {what}");
        }
    }
    Ok(())
}

/// Inserts an identity at every place of a chain, in every way, and compares parameters and all other state.
/// Every row has this law; call this function for chains of several transforms, and for problems of another
/// size.
///
/// ```
/// use gradient_transform::Descent;
/// use transform_laws::{Boxed, Problem, identities_change_nothing};
///
/// let members = || -> Vec<Boxed<f32>> { vec![Box::new(Descent::default())] };
/// identities_change_nothing::<f32, f32>("descent", &members, 0.1, &Problem::of(&[&[40, 7]], 2))?;
/// # Ok::<(), transform_laws::Broken>(())
/// ```
///
/// # Errors
/// An identity changes something.
pub fn identities_change_nothing<T: Real, E: Number>(
    name: &'static str,
    members: &dyn Fn() -> Vec<Boxed<T>>,
    lr: f64,
    problem: &Problem,
) -> Result<(), Broken> {
    nothing_changes::<T, E>(members, lr, problem).map_err(|how| Broken {
        row: name,
        law: Law::Identity,
        how: format!("{how:#}"),
    })
}

pub(crate) fn an_identity_changes_no_bit(row: &Row) -> Result<()> {
    let problem = Problem::of(&TILED, 3);
    nothing_changes::<f32, f32>(&|| row.members(), row.laws.lr, &problem)?;
    nothing_changes::<f32, bf16>(&|| row.members(), row.laws.lr, &problem)?;
    nothing_changes::<f64, f64>(&|| row.members(), row.laws.lr, &problem)
}

/// An identity at every place of the chain of one group, next to another group with the same chain, or under
/// one estimate with it.
pub(crate) fn an_identity_in_one_group_changes_no_bit_of_either(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let members = row.members::<f32>();
    let (writer, len) = (writer(&members)?, members.len());
    for split_groups in [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint] {
        let run = |chains: [Vec<Boxed<f32>>; 2]| {
            let chains = chains.into_iter().map(|chain| Box::new(chain) as Boxed<f32>).collect();
            let running = Running::<f32, f32>::in_groups(chains, split_groups, row.laws.lr, &problem.init)?;
            but_for_identities(running, &problem)
        };
        let plain = run([row.members(), row.members()])?;
        for (group, place) in (0..2).flat_map(|group| (0..=len).map(move |p| (group, p))) {
            let mut chains = [row.members(), row.members()];
            let identity = Identity { columns: 1, role: Role::Map, behind_the_writer: place > writer };
            chains[group].insert(place, Box::new(identity));
            ensure!(
                run(chains)? == plain,
                "something changes with {split_groups:?} and an identity at {place} of group {group}"
            );
        }
    }
    Ok(())
}
