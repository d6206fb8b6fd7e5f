#![doc = include_str!("../README.md")]

// The attributes name the crate.
extern crate self as gradient_transform;

mod author;
mod axes;
mod buffer;
mod check;
mod compose;
mod context;
mod descent;
mod element;
mod error;
mod estimator;
mod evaluation;
mod explain;
mod fit;
mod group;
mod hyperparameters;
pub mod kernel;
mod map;
mod names;
pub mod number;
mod optimizer;
mod origins;
mod parameter;
mod plan;
mod prefetch;
mod restore;
mod rounding;
mod samples;
mod shared_sums;
mod snapshot;
mod state;
mod step;
mod sums;
mod sweep;
mod tensor;
mod tile;
mod transform;
mod update;
mod writer;

pub use author::{
    AlongState, Column, Element, ElementOf, Fields, Fused, GradientTransform, Loops, Moment, MomentElement,
    Nothing, Transforms, Writer, fields, fused, kind, loops, transform,
};
pub use buffer::{Buffer, Slice, SliceMut};
pub use compose::{OnlyFor, only_for};
pub use context::{Context, Estimate, Rectification, StepContext, StepSummary, TensorInfo};
pub use descent::Descent;
pub use element::{DType, Real, Scalar};
pub use error::{Error, Result};
pub use estimator::Estimator;
pub use evaluation::Averaging;
pub use explain::Equations;
pub use group::{EngineCompat, NonFinite, ParameterGroup, Settings, SplitGroups};
pub use map::{Map, Rescale, map, rescale};
pub use number::{Backend, Num};
pub use optimizer::Optimizer;
pub use parameter::Parameter;
pub use restore::{RestoreOptions, Restored};
pub use rounding::Rounding;
pub use shared_sums::SumsOver;
pub use snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};
pub use state::{ColumnSpec, Initial, StateSpec, Storage, Sums, TensorState, VectorSpec};
pub use step::{StepInProgress, StepOutcome};
pub use sums::{Gathered, SumShape};
pub use sweep::TILE;
pub use tile::Tile;
pub use transform::{Link, Reads, Role};
pub use update::Update;
pub use writer::WriterLink;

/// The part of the engine that most callers use, so that it is compiled here and not once more in each of their binaries: where
/// little is optimised, crates share the generic code of those that they depend on.
#[cfg(all(debug_assertions, not(test)))]
#[used]
static COMPILED_HERE: fn(&mut Optimizer<f32>, Snapshot, &mut [Parameter<'_>]) -> Result<Snapshot> =
    |optimizer, snapshot, parameters| {
        optimizer.restore(snapshot)?;
        optimizer.step(parameters)?;
        optimizer.eval(parameters)?;
        optimizer.train(parameters)?;
        Ok(optimizer.snapshot())
    };

/// Names that the attribute [`transform`] refers to.
#[doc(hidden)]
pub mod __private {
    pub use crate::author::pass::{Pass, run, run_writer};
}
