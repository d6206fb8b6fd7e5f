#![doc = include_str!("../README.md")]

mod newton_schulz;

use gradient_transform::{
    Buffer, Context, DType, Error, Link, Real, Result, Role, SliceMut, StateSpec, Storage, Sums, TensorInfo,
    TensorState, Tile, kernel,
};

pub use newton_schulz::{Precision, orthogonalise};

/// By what an orthogonalised update is divided.
///
/// ```
/// use muon_pp::{Muon, Normalisation};
///
/// assert_eq!(Muon::new(0.99).normalisation, Normalisation::MovingAverage);
/// let constant = Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.99) };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// The root of a moving average of its mean square, decayed by beta2 (d_prev/d)^2.
    #[default]
    MovingAverage,
    /// The root mean square of the first update, for ever: what the reference does together with SPEED.
    FirstUpdate,
}

/// Orthogonalises the update of a tensor of rank 2 or more, seen as the matrix (dim0, the rest).
///
/// ```text
/// X <- G / (|G| + 1e-7);  six times:  A = X X',  X <- a X + (b A + c A A) X
/// O  = clamp(<G, X>, -1, 1) X
/// r <- beta2 (d_prev/d)^2 r + (1 - beta2) mean(O^2)
/// u  = O / (sqrt(r) + 1e-8)
/// ```
///
/// with (a, b, c) = (3.4445, -4.7750, 2.0315), which brings all singular values near 1.
///
/// Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the factor <G, X> from leloykun's
/// adaptive-muon. There the momentum is orthogonalised, in five iterations, and scaled by the matrix's shape; here, as in the reference, the
/// gradient, in six, and the mean square takes the scale out.
///
/// Tensors of rank 0 and 1 pass through unchanged: put a moment for them beside it with
/// [`gradient_transform::only_for`]. Needs the whole matrix, so the chain is cut behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Decay of the mean square, in [0, 1).
    pub beta2: f64,
    /// What the iterations round to. Default: the type computed in.
    pub precision: Precision,
    /// By what the result is divided.
    pub normalisation: Normalisation,
    /// Reference 1.9.2: the mean square is a bfloat16 number, and every operation on it rounds to bfloat16.
    pub narrow_mean_square: bool,
}

impl Muon {
    /// Muon in full precision with a moving average.
    pub fn new(beta2: f64) -> Self {
        Self {
            beta2,
            precision: Precision::default(),
            normalisation: Normalisation::default(),
            narrow_mean_square: false,
        }
    }

    /// Whether a tensor is orthogonalised.
    pub fn takes(tensor: &TensorInfo) -> bool {
        tensor.shape.len() >= 2
    }
}

impl<T: Real> Link<T> for Muon {
    fn name(&self) -> &str {
        "muon"
    }

    fn validate(&self) -> Result<()> {
        Error::check("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "at least 0 and below 1")
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        Self::takes(tensor)
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().workspace("matrix").vector("mean_square", 1, Storage::Compute)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        tile.columns[0].copy_from_slice(tile.update.values());
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let Ok(matrix) = T::native_mut(state.columns[0].as_mut_slice()) else { return };
        let rows = cx.tensor.shape[0];
        let cols = matrix.len() / rows.max(1);
        let sum_of_squares = match T::slice_mut(matrix) {
            SliceMut::F32(matrix) => orthogonalise(matrix, rows, cols, self.precision),
            SliceMut::F64(matrix) => orthogonalise(matrix, rows, cols, self.precision),
            SliceMut::Bf16(_) => unreachable!("nothing is computed in bfloat16"),
        };
        let rms = (sum_of_squares / matrix.len() as f64).sqrt().max(1e-8);
        let factor = self.factor(cx, rms, &mut state.vectors[0]);
        kernel::map(matrix, |x| x * factor);
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.map2(tile.columns[0], |_, o| o);
    }
}

impl Muon {
    /// Moves the mean square on, and gives what the update is multiplied by.
    fn factor<T: Real>(&self, cx: &Context<'_>, rms: f64, kept: &mut Buffer) -> T {
        let narrow = self.narrow_mean_square && cx.tensor.dtype != DType::F64;
        let round = |x: T| if narrow { x.round_bf16() } else { x };
        match self.normalisation {
            Normalisation::FirstUpdate => {
                // What is kept is the first mean square; 0 says that there has been none.
                if kept.get::<T>(0) == T::zero() {
                    kept.set(0, T::of(rms * rms));
                }
                T::one() / kept.get::<T>(0).sqrt()
            }
            Normalisation::MovingAverage => {
                let (decay, weight) = cx.second_moment_weights(self.beta2);
                let old = round(kept.get::<T>(0) * T::of(decay));
                let mean_square = round(old + T::of(weight) * T::of(rms * rms));
                kept.set(0, mean_square);
                round(T::one() / round(round(mean_square.sqrt()) + T::of(1e-8)))
            }
        }
    }
}
