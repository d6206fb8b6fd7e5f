//! The recorder of an optimizer: the work of every link, in every n-th step.

use std::collections::VecDeque;

use crate::engine::comparison::Comparison;
use crate::engine::sweep::watch::Coverage;
use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::memory::element::{DType, Real};
use crate::optimizer::Optimizer;
use crate::optimizer::group::Group;
use crate::optimizer::policy::GroupPolicy;
use crate::optimizer::record::{GroupRecord, LinkRecord, Norms, NotFinite, Place, Record, TensorRecord};

/// A recorder for [`Optimizer::set_recorder`]: the work of every link of the chain on every tensor, in every
/// n-th step.
///
/// ```
/// use gradient_transform::{
///     Descent, GroupRecord, LinkRecord, Norms, Optimizer, Parameter, Record, Recorder, TensorRecord, rescale,
/// };
///
/// let unit = rescale!("unit-norm", |u| u * u, |sum, _n| 1.0 / sum.sqrt());
/// let mut optimizer = Optimizer::new((unit, Descent::default()), [("w", [2])])?;
/// optimizer.set_recorder(Some(Recorder::every(10)?.keep(3)?)); // steps 1, 11, 21 and so on; the latest three
/// let mut w = [1.0_f32, 1.0];
/// for step in 1..=50 {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, 4.0]))])?;
/// }
/// let recorder = optimizer.recorder().unwrap();
/// assert!(recorder.records().map(|record| record.step).eq([21, 31, 41]));
///
/// let record: &Record = recorder.latest().unwrap();
/// let tensor: &TensorRecord = &record.tensors[0];
/// let link: &LinkRecord = &tensor.links[0];
/// assert_eq!((link.link.as_str(), link.before, link.changed), ("unit-norm", 5.0, 1.0));
/// assert!((link.after - 1.0).abs() < 1e-6 && link.cosine.unwrap() > 0.999_999);
/// assert_eq!((tensor.links[1].link.as_str(), tensor.moved), ("descent", 1.0));
///
/// let group: &GroupRecord = &record.groups[0];
/// assert_eq!((group.k, group.lr, group.contribution), (41, 1.0, None)); // no estimator in this chain
/// let Norms { gradient, displacement, .. } = record.norms();
/// assert!(gradient == 5.0 && (displacement - 1.0).abs() < 1e-5);
/// assert!(record.tensors_of(0).count() == 1 && Norms::over([tensor.norms]).gradient == 5.0);
///
/// // For a file or a picture; the recorder no longer has them.
/// let records: Vec<Record> = optimizer.recorder_mut().unwrap().take();
/// assert_eq!(records.len(), 3);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    every: u64,
    keep: usize,
    coverage: Coverage,
    records: VecDeque<Record>,
    /// The number of the latest step that is done.
    done: u64,
    /// The number of the current step.
    current: u64,
    first_not_finite: Option<NotFinite>,
}

impl Recorder {
    /// Default number of records that are kept.
    const KEPT: usize = 100;

    /// A recorder of steps 1, `steps` + 1, twice `steps` + 1 and so on. The latest 100 records are
    /// kept.
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`] for 0.
    pub fn every(steps: u64) -> Result<Self> {
        Error::check("every", steps as f64, steps > 0, "at least 1")?;
        Ok(Self {
            every: steps,
            keep: Self::KEPT,
            coverage: Coverage::Sample,
            records: VecDeque::new(),
            done: 0,
            current: 0,
            first_not_finite: None,
        })
    }

    /// Sets how many records are kept, which limits the memory; the next record replaces the oldest.
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`] for 0.
    pub fn keep(mut self, records: usize) -> Result<Self> {
        Error::check("keep", records as f64, records > 0, "at least 1")?;
        self.keep = records;
        self.records.truncate(records);
        Ok(self)
    }

    /// Measures the links in all elements of long tensors too, for exact numbers and for
    /// [`first_not_finite`](Self::first_not_finite).
    ///
    /// Without it, in a tensor of more than 65,536 elements one block of 1024 out of every eight is measured,
    /// always the same ones. The norms of the gradient and of the parameter are exact in both cases; that of
    /// the displacement, and norms, cosines and shares of links are estimates from these blocks, and the
    /// recorder costs a fraction of the time.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, Recorder};
    ///
    /// let sampled = |recorder: Recorder| -> gradient_transform::Result<usize> {
    ///     let mut optimizer = Optimizer::new(Descent::default(), [("w", [1 << 20])])?;
    ///     optimizer.set_recorder(Some(recorder));
    ///     let (mut w, gradient) = (vec![1.0_f32; 1 << 20], vec![0.5; 1 << 20]);
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    ///     let tensor = &optimizer.recorder().unwrap().latest().unwrap().tensors[0];
    ///     assert!((tensor.norms.displacement - 512.0).abs() < 1e-9 && tensor.moved == 1.0);
    ///     Ok(tensor.sampled)
    /// };
    /// assert_eq!(sampled(Recorder::every(10)?)?, 1 << 17);
    /// assert_eq!(sampled(Recorder::every(10)?.all_elements())?, 1 << 20);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn all_elements(mut self) -> Self {
        self.coverage = Coverage::All;
        self
    }

    /// The records that are kept, the oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator + Clone {
        self.records.iter()
    }

    /// The latest record, if there is one.
    pub fn latest(&self) -> Option<&Record> {
        self.records.back()
    }

    /// Takes the records out, the oldest first.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records).into()
    }

    /// The first value that was not finite, in all steps that were recorded. To find the very first one,
    /// record every step and [all elements](Self::all_elements): in blocks that are not measured, it is found
    /// only in the parameter after the step.
    ///
    /// ```
    /// use gradient_transform::{Descent, NotFinite, Optimizer, Parameter, Place, Recorder, map};
    ///
    /// let root = map!("root", |u| u.sqrt()); // the root of a negative number
    /// let mut optimizer = Optimizer::new((root, Descent::default()), [("w", [2])])?;
    /// optimizer.set_recorder(Some(Recorder::every(1)?));
    /// let mut w = [1.0_f32, 1.0];
    /// for gradient in [[1.0, 4.0], [1.0, -4.0]] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    /// }
    /// let found: &NotFinite = optimizer.recorder().unwrap().first_not_finite().unwrap();
    /// assert_eq!(found.place, Place::Link("root".into()));
    /// assert_eq!(found.to_string(), "in step 2, the update after `root` is NaN at element 1 of `w`");
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn first_not_finite(&self) -> Option<&NotFinite> {
        self.first_not_finite.as_ref()
    }

    /// Begins a step; `k` is the largest number of steps of a group.
    fn begin(&mut self, k: u64) {
        self.current = k.max(self.done + 1);
    }

    /// Whether the current step is recorded.
    fn is_due(&self) -> bool {
        (self.current - 1).is_multiple_of(self.every)
    }

    /// The record to be filled: the oldest one, if there is no room for more.
    fn next(&mut self) -> Record {
        if self.records.len() < self.keep {
            Record::default()
        } else {
            self.records.pop_front().unwrap_or_default()
        }
    }
}

impl<T: Real> Optimizer<T> {
    /// Sets or removes the recorder; returns the previous one.
    ///
    /// It measures tiles while they are in the processor's caches: no array is read again, and the bits of a
    /// step are the same with and without it. A step that is not recorded runs as without a recorder. In a
    /// recorded step, a [fused](crate::fused) chain runs link by link in its last sweep, in the tiles that
    /// are [measured](Recorder::all_elements). The recorder is not part of a [`Snapshot`](crate::Snapshot),
    /// and [`OnDevice`](crate::device::OnDevice) rejects an optimizer that has one.
    pub fn set_recorder(&mut self, recorder: Option<Recorder>) -> Option<Recorder> {
        std::mem::replace(&mut self.recorder, recorder)
    }

    /// The recorder, if there is one.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// The recorder, to [take](Recorder::take) records out.
    pub fn recorder_mut(&mut self) -> Option<&mut Recorder> {
        self.recorder.as_mut()
    }

    /// Tells the recorder that a step has begun.
    pub(crate) fn begin_record(&mut self) {
        let k = self.groups.iter().map(|group| group.context.k).max().unwrap_or(1);
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(k);
        }
    }

    /// The coverage with which the current step is recorded, if it is.
    pub(crate) fn recorded(&self) -> Option<Coverage> {
        let recorder = self.recorder.as_ref().filter(|recorder| recorder.is_due())?;
        Some(recorder.coverage)
    }

    /// Records the step that has ended.
    pub(crate) fn end_record(&mut self) {
        let Self { groups, tensors, policy, recorder: Some(recorder), .. } = self else { return };
        if groups.iter().all(|group| group.summary.gradients == 0) {
            return;
        }
        recorder.done = recorder.current;
        if !recorder.is_due() {
            return;
        }
        let mut record = recorder.next();
        fill(&mut record, recorder.current, groups, tensors, &**policy);
        if recorder.first_not_finite.is_none() {
            recorder.first_not_finite.clone_from(&record.not_finite);
        }
        recorder.records.push_back(record);
    }
}

/// Replaces an earlier record by a step, in the same memory.
fn fill<T: Real>(
    record: &mut Record,
    step: u64,
    groups: &[Group<T>],
    tensors: &[Tensor<T>],
    policy: &dyn GroupPolicy,
) {
    record.step = step;
    let mut count = 0;
    for tensor in tensors {
        if tensor.seen().is_none() {
            continue;
        }
        if record.tensors.len() == count {
            record.tensors.push(empty());
        }
        fill_tensor(&mut record.tensors[count], tensor, &groups[tensor.group]);
        count += 1;
    }
    record.tensors.truncate(count);
    record.groups.clear();
    let stepped = groups.iter().enumerate().filter(|(_, group)| group.summary.gradients > 0);
    for (index, group) in stepped {
        let own = record.tensors.iter().filter(|tensor| tensor.group == index);
        let contributions = own.clone().map(|tensor| tensor.contribution);
        record.groups.push(GroupRecord {
            group: index,
            k: group.context.k,
            lr: group.context.lr,
            step_size: group.context.step_size,
            before: group.context.estimate,
            after: group.estimate,
            contribution: group.estimates.then(|| policy.total(&mut contributions.clone())),
            norms: Norms::over(own.map(|tensor| tensor.norms)),
        });
    }
    record.not_finite = first_not_finite(step, groups, tensors);
}

fn empty() -> TensorRecord {
    TensorRecord {
        name: String::new(),
        group: 0,
        dtype: DType::F32,
        elements: 0,
        sampled: 0,
        norms: Norms::default(),
        cosine: None,
        moved: 0.0,
        contribution: [0.0; 2],
        links: Vec::new(),
    }
}

fn fill_tensor<T: Real>(record: &mut TensorRecord, tensor: &Tensor<T>, group: &Group<T>) {
    let (Some(seen), Some(outcome)) = (tensor.seen(), tensor.outcome) else { return };
    record.name.clone_from(&tensor.info.name);
    record.group = tensor.group;
    record.dtype = tensor.info.dtype;
    record.elements = tensor.info.len();
    let (watched, displacement) = (seen.watched_gradient(), seen.displacement());
    record.sampled = watched.elements as usize;
    // The estimate of the sum over all elements, from that over the sample.
    let scale = record.elements.max(1) as f64 / record.sampled.max(1) as f64;
    let norm = |squares: f64| (scale * squares).sqrt();
    record.norms = Norms {
        gradient: seen.gradient().squares.sqrt(),
        parameter: seen.parameter().squares.sqrt(),
        displacement: norm(displacement.squares),
    };
    record.cosine = cosine(watched.squares, displacement);
    record.moved = share(displacement);
    record.contribution = outcome.contribution;
    let stages = stages(&*group.chain);
    let (mut before, mut count) = (watched.squares, 0);
    for (stage, seen) in seen.links() {
        if record.links.len() == count {
            record.links.push(LinkRecord {
                link: String::new(),
                before: 0.0,
                after: 0.0,
                cosine: None,
                changed: 0.0,
            });
        }
        let link = &mut record.links[count];
        link.link.clear();
        link.link.push_str(stages[stage].name());
        (link.before, link.after) = (norm(before), norm(seen.squares));
        (link.cosine, link.changed) = (cosine(before, seen), share(seen));
        (before, count) = (seen.squares, count + 1);
    }
    record.links.truncate(count);
}

/// Of values, the sum of whose squares is `before`, and those that they were compared with.
fn cosine(before: f64, seen: &Comparison) -> Option<f64> {
    let cosine = seen.products / (before.sqrt() * seen.squares.sqrt());
    cosine.is_finite().then(|| cosine.clamp(-1.0, 1.0))
}

fn share(seen: &Comparison) -> f64 {
    seen.changed as f64 / seen.elements.max(1) as f64
}

/// The first value that is not finite, in the order of the links, and then of the tensors.
fn first_not_finite<T: Real>(step: u64, groups: &[Group<T>], tensors: &[Tensor<T>]) -> Option<NotFinite> {
    let places = tensors.iter().filter_map(|tensor| {
        let seen = tensor.seen()?;
        seen.slots.iter().enumerate().find_map(|(slot, seen)| Some((slot, tensor, seen.not_finite?)))
    });
    let (slot, tensor, (element, value)) = places.min_by_key(|(slot, ..)| *slot)?;
    let stages = stages(&*groups[tensor.group].chain);
    let place = match slot.checked_sub(1) {
        None => Place::Gradient,
        Some(stage) => {
            stages.get(stage).map_or(Place::Parameter, |stage| Place::Link(stage.name().to_owned()))
        }
    };
    Some(NotFinite { step, tensor: tensor.info.name.clone(), place, element, value: value.to_string() })
}

#[cfg(test)]
mod tests;
