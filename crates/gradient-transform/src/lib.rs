#![doc = include_str!("../README.md")]

mod buffer;
mod compose;
mod context;
mod descent;
mod element;
mod error;
mod group;
pub mod kernel;
mod map;
mod optimizer;
mod parameter;
mod plan;
mod prefetch;
mod rounding;
mod snapshot;
mod state;
mod sweep;
mod tensor;
mod transform;

pub use buffer::{Buffer, Slice, SliceMut};
pub use compose::{OnlyFor, only_for};
pub use context::{Context, Estimate, Rectification, StepContext, StepSummary, TensorInfo};
pub use descent::Descent;
pub use element::{DType, Element, Real};
pub use error::{Error, Result};
pub use group::{EngineCompat, NonFinite, ParameterGroup, Settings, SplitGroups};
pub use map::{Map, Rescale, map, rescale};
pub use optimizer::{Optimizer, StepInProgress, StepOutcome};
pub use parameter::Parameter;
pub use rounding::Rounding;
pub use snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};
pub use state::{ColumnSpec, Initial, StateSpec, Storage, Sums, TensorState, VectorSpec};
pub use sweep::TILE;
pub use transform::{Estimator, GradientTransform, Moment, Reads, Role, Tile, Writer};
