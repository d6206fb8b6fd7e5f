//! How a tensor is cut: into chunks, tiles, and the runs of a tile along axes.

pub(crate) mod axes;

/// Number of elements of a tile. Only a tensor's last tile may be shorter.
///
/// The same length for all sweeps, so that sums, which start again with every tile, have the same bits in
/// every chain.
///
/// ```
/// use gradient_transform::{Context, Descent, Link, Optimizer, Parameter, TILE, Tile};
///
/// #[derive(Debug)]
/// struct Count;
///
/// impl Link<f32> for Count {
///     fn name(&self) -> &str {
///         "count"
///     }
///
///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
///         assert!(tile.update.len() <= TILE);
///         let first = tile.offset as f32;
///         tile.update.values_mut().iter_mut().enumerate().for_each(|(i, u)| *u = -(first + i as f32));
///     }
/// }
///
/// let n = 2 * TILE + 1;
/// let mut optimizer = Optimizer::new((Count, Descent::default()), [("w", &[n][..])])?;
/// let mut w = vec![0.0_f32; n];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&vec![0.0; n]))])?;
/// assert!(w.iter().enumerate().all(|(i, w)| *w == i as f32));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub const TILE: usize = 1024;

/// Elements of a chunk, the unit of parallel work and of partial sums. Its boundaries depend only on the
/// tensor's length, so sums do not depend on the number of threads.
pub const CHUNK: usize = 1 << 19;

/// Index within an every-`n`-th column of the first element at or after `element`.
pub(crate) const fn nth(element: usize, every: usize) -> usize {
    if every == 1 { element } else { element.div_ceil(every) }
}
