//! The records of a run, as input of the rules.

use gradient_transform::{GroupRecord, Record, TensorRecord};

use crate::diagnosis::finding::GroupName;

/// Number of records that a diagnosis needs.
pub(super) const FEWEST: usize = 10;

/// Factor by which d has grown if the estimate works.
const GROWN: f64 = 10.0;

pub(super) struct History<'a> {
    /// In the order of their steps.
    pub(super) records: Vec<&'a Record>,
}

/// A group in a recorded step.
#[derive(Clone, Copy)]
pub(super) struct GroupStep<'a> {
    pub(super) step: u64,
    pub(super) group: &'a GroupRecord,
    pub(super) record: &'a Record,
}

impl<'a> GroupStep<'a> {
    /// The groups of the estimate: the group itself, and those that share it.
    pub(super) fn joined(self) -> impl Iterator<Item = &'a GroupRecord> + Clone {
        let own = self.group;
        self.record.groups.iter().filter(move |group| is_joint(group, own))
    }

    /// Their tensors.
    pub(super) fn tensors(self) -> impl Iterator<Item = &'a TensorRecord> + Clone {
        let record = self.record;
        self.joined().flat_map(|group| record.tensors_of(group.group))
    }

    /// The sum that the step's gradients added to the numerator of the group's estimate; with one estimate
    /// for all, the sum of all groups.
    pub(super) fn numerator(self) -> f64 {
        self.joined().filter_map(|group| group.contribution).map(|[numerator, _]| numerator).sum()
    }
}

/// Whether two groups have the same estimate, or are one group.
fn is_joint(group: &GroupRecord, other: &GroupRecord) -> bool {
    let sums = |group: &GroupRecord| (group.after.d, group.after.numerator, group.after.denominator);
    group.group == other.group || (group.after.denominator > 0.0 && sums(group) == sums(other))
}

impl<'a> History<'a> {
    pub(super) fn new(records: Vec<&'a Record>) -> Self {
        Self { records }
    }

    /// The groups with an estimator; of those that share an estimate, only the first.
    pub(super) fn groups(&self) -> Vec<usize> {
        let Some(latest) = self.records.last() else { return Vec::new() };
        let estimating: Vec<&GroupRecord> =
            latest.groups.iter().filter(|group| group.contribution.is_some()).collect();
        let is_first = |at: usize| !estimating[..at].iter().any(|earlier| is_joint(earlier, estimating[at]));
        (0..estimating.len()).filter(|&at| is_first(at)).map(|at| estimating[at].group).collect()
    }

    /// A group's recorded steps.
    pub(super) fn of(&self, group: usize) -> Vec<GroupStep<'a>> {
        let find = |record: &'a Record| {
            let found = record.groups.iter().find(|found| found.group == group)?;
            Some(GroupStep { step: record.step, group: found, record })
        };
        self.records.iter().filter_map(|record| find(record)).collect()
    }

    pub(super) fn name(&self, group: usize) -> GroupName {
        let names =
            self.records.last().map(|record| record.tensors_of(group).map(|tensor| tensor.name.as_str()));
        let mut names = names.into_iter().flatten();
        let first = names.next().unwrap_or_default().to_owned();
        GroupName { index: group, first, others: names.count() }
    }

    /// Whether d is still near its initial value.
    pub(super) fn is_stuck(&self, group: usize) -> bool {
        let steps = self.of(group);
        let last = steps.last().map(|step| step.group.after);
        steps.len() >= FEWEST && last.is_some_and(|estimate| estimate.d < GROWN * estimate.d0)
    }
}
