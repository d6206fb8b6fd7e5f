//! Values that transforms publish for others during a step.

use std::any::Any;
use std::fmt::Debug;

/// A value that a transform publishes for others: any plain type. See [`StepContext`](crate::StepContext).
///
/// ```
/// use gradient_transform::{Published, Rectification};
///
/// fn is_published<P: Published>() {}
/// is_published::<Rectification>();
/// ```
pub trait Published: Any + Copy + Debug + PartialEq + Send + Sync {}

impl<P: Any + Copy + Debug + PartialEq + Send + Sync> Published for P {}

/// RAdam's rectification of a step (Liu et al., 1908.03265, Algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectification {
    /// The rectifier r_t, by which the step size has been multiplied; 0 while the variance is intractable.
    pub factor: f64,
    /// Whether rho_t > 4. Otherwise a second moment leaves the raw gradient as it is.
    pub tractable: bool,
}

/// The decay of second moments in this step, in place of the one that each of them has: at least 0 and below 1.
///
/// ```
/// use gradient_transform::{Context, DType, MomentDecay, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 1 };
/// let mut step = StepContext::new(2, 1.0);
/// step.publish(MomentDecay(0.5));
/// assert_eq!(Context::new(&step, &tensor).second_moment_weights(0.75), (0.5, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentDecay(pub f64);

/// Schedule-Free's c: the weight of this step's z in the average (Defazio et al., 2405.15682, equation 4).
///
/// ```
/// use gradient_transform::{AveragingWeight, StepContext};
///
/// let mut step = StepContext::new(2, 1.0);
/// step.publish(AveragingWeight(0.5));
/// assert_eq!(step.published(), Some(AveragingWeight(0.5)));
/// assert_eq!(AveragingWeight::default().0, 1.0); // of a writer that averages nothing
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AveragingWeight(pub f64);

/// 1: a writer that averages nothing.
impl Default for AveragingWeight {
    fn default() -> Self {
        Self(1.0)
    }
}

/// Distance of the parameter along the update in a step, as a share of the step size: `1 - beta1 (1 - c)` with Schedule-Free.
///
/// ```
/// use gradient_transform::{StepContext, StepShare};
///
/// let mut step = StepContext::new(2, 0.5);
/// assert_eq!(step.effective_lr(), 0.5); // of a writer that averages nothing
/// step.publish(StepShare(0.25));
/// assert_eq!(step.effective_lr(), 0.125);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepShare(pub f64);

/// Whether d has left d0. Until it has, Prodigy wants updates that are not clipped. An estimator that does not publish it has no such
/// phase.
///
/// ```
/// use gradient_transform::{LeftD0, StepContext};
///
/// let mut step = StepContext::new(2, 1.0);
/// step.publish(LeftD0(false));
/// assert_eq!(step.published(), Some(LeftD0(false)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeftD0(pub bool);

/// The loss at the parameters as they are before the step: for [`Optimizer::step_with`](crate::Optimizer::step_with).
///
/// ```
/// use gradient_transform::{Descent, Loss, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
/// optimizer.step_with(Loss(0.5), &mut [Parameter::slice(&mut [1.0_f32], Some(&[1.0]))])?;
/// assert_eq!(optimizer.latest_step(0)?.published(), Some(Loss(0.5)));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss(pub f64);

/// Published values of a step, one of each type.
#[derive(Debug, Default)]
pub(crate) struct Publications(Vec<Slot>);

/// A value, or the memory for one.
#[derive(Debug)]
struct Slot {
    value: Box<dyn Value>,
    /// Whether it was published in this step.
    set: bool,
}

trait Value: Debug + Send + Sync {
    fn copied(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn is_same(&self, other: &dyn Any) -> bool;
}

impl<P: Published> Value for P {
    fn copied(&self) -> Box<dyn Value> {
        Box::new(*self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn is_same(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }
}

impl Publications {
    pub(crate) fn set<P: Published>(&mut self, value: P) {
        for slot in &mut self.0 {
            if let Some(memory) = slot.value.as_any_mut().downcast_mut::<P>() {
                (*memory, slot.set) = (value, true);
                return;
            }
        }
        self.0.push(Slot { value: Box::new(value), set: true });
    }

    /// The values of another list too, in place of those of the same types.
    pub(crate) fn set_all(&mut self, others: &Self) {
        for other in others.values() {
            let of_type = |slot: &&mut Slot| slot.value.as_any().type_id() == other.as_any().type_id();
            match self.0.iter_mut().find(of_type) {
                Some(slot) => *slot = Slot { value: other.copied(), set: true },
                None => self.0.push(Slot { value: other.copied(), set: true }),
            }
        }
    }

    pub(crate) fn get<P: Published>(&self) -> Option<P> {
        self.values().find_map(|value| value.as_any().downcast_ref().copied())
    }

    /// Forgets all values, and keeps their memory.
    pub(crate) fn forget(&mut self) {
        self.0.iter_mut().for_each(|slot| slot.set = false);
    }

    fn values(&self) -> impl Iterator<Item = &dyn Value> {
        self.0.iter().filter(|slot| slot.set).map(|slot| &*slot.value)
    }
}

impl Clone for Publications {
    fn clone(&self) -> Self {
        Self(self.values().map(|value| Slot { value: value.copied(), set: true }).collect())
    }
}

impl PartialEq for Publications {
    fn eq(&self, other: &Self) -> bool {
        let has = |value: &dyn Value| other.values().any(|theirs| value.is_same(theirs.as_any()));
        self.values().count() == other.values().count() && self.values().all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_own_values_whatever_was_published_in_the_one_before() {
        let mut first = Publications::default();
        first.set(LeftD0(false));
        first.set(AveragingWeight(0.5));
        first.set(AveragingWeight(0.25));
        assert_eq!((first.get(), first.get::<Rectification>()), (Some(AveragingWeight(0.25)), None));

        let copy = first.clone();
        assert_eq!(copy, first);
        first.forget();
        assert_eq!((first.get::<AveragingWeight>(), copy.get()), (None, Some(LeftD0(false))));
        assert_eq!(first, Publications::default());
        first.set(AveragingWeight(0.25));
        assert_ne!(copy, first);
        first.set(LeftD0(false));
        assert_eq!(copy, first);
    }
}
