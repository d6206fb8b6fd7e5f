#![doc = include_str!("../README.md")]
//!
//! # Launching
//!
//! All kernels have the same seven arguments. What does not change from step to step is in [`Tables`]; [`words`] gives the rest.
//!
//! ```
//! use gradient_transform::{Descent, Optimizer};
//! use sweep_kernels::{Launch, SUPPORT, Tables, USABLE, usable_tables};
//!
//! let optimizer = Optimizer::new(Descent::default(), [("w", [3000])])?;
//! let sweep = &optimizer.formulas(0, &[3000])?[0];
//! let tables = Tables::new(sweep, &[&[3000], &[5]]);
//! // Four tiles: three of the first tensor, and one of the second.
//! let launch = Launch { kernel: "sweep".into(), first: 0, count: 4, words: 2, by_warps: true };
//! assert_eq!(tables.launches, [launch]);
//! assert_eq!(tables.jobs, [0, 0, 0, 1, 0, 2, 1, 0]);
//! assert!(tables.results().is_empty() && tables.results_along() == 0); // no sums
//!
//! assert_eq!(usable_tables(&[3000, 5]).jobs, tables.jobs);
//! assert!(SUPPORT.contains("#define KERNEL") && USABLE.contains("KERNEL usable"));
//! # Ok::<(), gradient_transform::Error>(())
//! ```
//!
//! A sweep of an executor is then:
//!
//! ```
//! use gradient_transform::device::{Executor, SweepFormula, TensorSweep};
//! use sweep_kernels::{Layout, Tables, Types, by_types, kernels, words};
//!
//! fn sweep<E: Executor>(
//!     formula: &SweepFormula,
//!     tensors: &mut [TensorSweep<'_, f32, E::Array>],
//!     address: impl Fn(&E::Array) -> u64,
//!     mut run: impl FnMut(&str, &Tables, &[u64], &[f32]) -> (Vec<f64>, Vec<f32>),
//! ) {
//!     for (types, tensors) in by_types::<E>(tensors) {
//!         let types: Types = types;
//!         let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| tensor.shape).collect();
//!         let tables = Tables::new(formula, &shapes);
//!         let layout = Layout::of(formula, types.columns.len());
//!         let (words, along) = words(formula, &layout, tensors, &address);
//!         let (doubles, floats) = run(&kernels(formula, &types), &tables, &words, &along);
//!         tables.put(&doubles, &floats, tensors);
//!     }
//! }
//! ```

mod batch;
mod constants;
mod expression;
mod layout;
pub mod product;
mod text;
pub mod wgsl;

pub use batch::{Launch, Tables, USABLE, by_key, by_types, usable_tables, words};
pub use layout::Layout;
pub use text::{SUPPORT, Types, kernels};
