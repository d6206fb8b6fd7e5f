//! Working memory of threads, reused from step to step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::plan::Plan;
use crate::memory::element::Real;
use crate::memory::sums::Gathered;

/// Buffers that tasks borrow, reused from step to step.
#[derive(Debug, Default)]
struct Pool<B>(Mutex<Vec<Vec<B>>>);

impl<B> Pool<B> {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<B>>> {
        // A poisoned lock only means that another thread's transform panicked; the buffers have no invariant to lose.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<B>) -> R) -> R {
        let mut buffer = self.lock().pop().unwrap_or_default();
        let result = f(&mut buffer);
        self.lock().push(buffer);
        result
    }
}

/// Working memory of the running threads, reused from step to step.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool<T> {
    tiles: Pool<T>,
    sums: Pool<Gathered<T>>,
    /// Recent plans.
    plans: Mutex<Vec<Arc<Plan>>>,
}

impl<T: Real> ScratchPool<T> {
    pub(super) fn with_tiles<R>(&self, len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
        self.tiles.with(|buffer| {
            // Aligned to a cache line, so that a vector is within one.
            const SPARE: usize = 64;
            if buffer.len() < len + SPARE {
                buffer.resize(len + SPARE, T::zero());
            }
            let at = buffer.as_ptr().align_offset(64).min(SPARE);
            f(&mut buffer[at..][..len])
        })
    }

    /// `count` arrays of sums, of any contents.
    pub(super) fn with_sums<R>(&self, count: usize, f: impl FnOnce(&mut [Gathered<T>]) -> R) -> R {
        self.sums.with(|buffer| {
            if buffer.len() < count {
                buffer.resize_with(count, Gathered::default);
            }
            f(&mut buffer[..count])
        })
    }

    /// The plan, shared by all tensors that have the same one: with many small tensors, the time of a step is
    /// the time to load their descriptions.
    pub(crate) fn shared(&self, plan: Plan) -> Arc<Plan> {
        /// The number of recent plans. A model has few different tensors.
        const LATELY: usize = 16;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = plans.iter().find(|made| ***made == plan) {
            return Arc::clone(same);
        }
        if plans.len() == LATELY {
            plans.remove(0);
        }
        let plan = Arc::new(plan);
        plans.push(Arc::clone(&plan));
        plan
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let tiles: usize = self.tiles.lock().iter().map(|buffer| buffer.capacity() * size_of::<T>()).sum();
        let sums: usize = self.sums.lock().iter().flatten().map(Gathered::bytes).sum();
        tiles + sums
    }
}
