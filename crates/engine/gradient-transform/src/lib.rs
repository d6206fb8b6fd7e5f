// The first definition of a link counts: items here, their sources on GitHub.
#![doc = include_str!("links.md")]
#![doc = include_str!("../README.md")]

// The attributes name the crate.
extern crate self as gradient_transform;

mod author;
pub mod device;
mod engine;
mod error;
mod layout;
mod link;
mod memory;
mod optimizer;
pub mod prelude;
#[cfg(test)]
mod rooms;

pub use author::{
    AlongState, Column, Descent, Element, ElementOf, Fields, Fused, GradientTransform, Moment, MomentElement,
    Nothing, Transforms, Writer, fields, fused, kind, loops, transform,
};
pub use error::{Error, Result};
pub use layout::TILE;
pub use link::compose::{OnlyFor, only_for};
pub use link::context::{Context, Estimate, StepContext, StepSummary, TensorInfo};
pub use link::equations::Equations;
pub use link::estimator::Estimator;
pub use link::loops::Loops;
pub use link::moment_scale::MomentScale;
pub use link::published::{AveragingWeight, LeftD0, Loss, MomentDecay, Published, Rectification, StepShare};
pub use link::state::{ColumnSpec, Initial, StateSpec, Storage, Sums, TensorState, VectorSpec};
pub use link::sums_over::SumsOver;
pub use link::tile::Tile;
pub use link::update::Update;
pub use link::writer::WriterLink;
pub use link::{Link, Reads, Role};
pub use memory::buffer::{Buffer, Slice, SliceMut};
pub use memory::element::{DType, Real, Scalar};
pub use memory::noise::normal;
pub use memory::number::{Backend, Num};
pub use memory::rounding::Rounding;
pub use memory::sums::{Gathered, SumShape};
pub use memory::{kernel, number};
pub use optimizer::Optimizer;
pub use optimizer::evaluating::Evaluating;
pub use optimizer::evaluation::{Averaging, TrainingPoint};
pub use optimizer::group::{NonFinite, ParameterGroup, Settings};
pub use optimizer::parameter::Parameter;
pub use optimizer::policy::{Counts, GroupPolicy, GroupState, SplitGroups};
pub use optimizer::record::{GroupRecord, LinkRecord, Norms, NotFinite, Place, Record, TensorRecord};
pub use optimizer::recorder::Recorder;
pub use optimizer::restore::{RestoreOptions, Restored};
pub use optimizer::shape::IntoShape;
pub use optimizer::snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};
pub use optimizer::step::{StepInProgress, StepOutcome};

/// The part of the engine that most callers use, so that it is compiled once, here, and not again in each of
/// their binaries: at low levels of optimisation, crates share the generic code of their dependencies.
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
    pub use crate::author::kind::Kind;
    pub use crate::author::loops::pass::{Pass, run, run_writer};
    pub use crate::author::trace::{Traced, trace};
    pub use crate::link::equations::Equations;
    pub use crate::link::formula::{ElementWork, FormulaElement};
}
