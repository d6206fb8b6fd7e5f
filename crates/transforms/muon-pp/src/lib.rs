#![doc = include_str!("../README.md")]

mod auxiliary;
mod newton_schulz;
mod on_device;

use gradient_transform::device::{ElementWork, FormulaElement, FormulaNumbers, MatrixNumbers, MatrixWork};
use gradient_transform::{
    Buffer, Context, DType, Error, Link, Real, Result, Role, StateSpec, Storage, Sums, TensorInfo,
    TensorState, Tile, kernel,
};
use ndarray::ArrayViewMut2;
use serde::{Deserialize, Serialize};

pub use auxiliary::Auxiliary;
pub use newton_schulz::{Coefficients, Precision};

/// By what an orthogonalised update is divided.
///
/// ```
/// use muon_pp::{Muon, Normalisation};
///
/// assert_eq!(Muon::default().normalisation, Normalisation::None);
/// assert_eq!(Muon::new(0.99).normalisation, Normalisation::MovingAverage);
/// let constant = Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.99) };
/// let normuon = Muon { normalisation: Normalisation::Neurons, ..Muon::default() };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// Nothing.
    #[default]
    None,
    /// The root of a moving average of its mean square, decayed by beta2 (d_prev/d)^2.
    MovingAverage,
    /// The root mean square of the first update, forever: what the reference does together with SPEED.
    FirstUpdate,
    /// Every row by the root of a moving average of its mean square, decayed by beta2, and the whole matrix rescaled to its former
    /// norm: NorMuon (Li et al., 2510.05491). Rows are neurons where a weight is (out, in). Keeps a number per row.
    Neurons,
}

/// A factor of the update that depends on the matrix's shape alone.
///
/// ```
/// use muon_pp::Scale;
///
/// assert_eq!((Scale::None.factor(400, 100), Scale::Spectral.factor(100, 400)), (1.0, 0.5));
/// assert_eq!((Scale::Jordan.factor(400, 100), Scale::Jordan.factor(100, 400)), (2.0, 1.0));
/// assert_eq!((Scale::MatchAdam.factor(400, 100), Scale::MatchAdam.factor(100, 400)), (4.0, 4.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// 1.
    None,
    /// `sqrt(max(1, rows / cols))` (Jordan et al. 2024). PyTorch's "original".
    #[default]
    Jordan,
    /// `0.2 sqrt(max(rows, cols))` (2502.16982): a root mean square of about 0.2, as Adam's updates have, so that learning rates
    /// and decay tuned for AdamW can be kept. PyTorch's "match_rms_adamw".
    MatchAdam,
    /// `sqrt(rows / cols)` (Bernstein 2025): a spectral norm for which one learning rate fits every width. PyTorch's
    /// "spectral_unclamped".
    Spectral,
}

impl Scale {
    /// The factor for a matrix of this shape.
    pub fn factor(self, rows: usize, cols: usize) -> f64 {
        let ratio = rows as f64 / cols.max(1) as f64;
        match self {
            Self::None => 1.0,
            Self::Jordan => ratio.max(1.0).sqrt(),
            Self::MatchAdam => 0.2 * (rows.max(cols) as f64).sqrt(),
            Self::Spectral => ratio.sqrt(),
        }
    }
}

/// Orthogonalises the update of a tensor of rank 2 or more, seen as the matrix (dim0, the rest).
///
/// ```text
/// m <- mu m + (1 - mu) u                                 with momentum
/// G  = m,  or (1 - mu) u + mu m with nesterov
/// X <- G / (|G| + eps);  as often as iterations says:  A = X X',  X <- a X + (b A + c A A) X
/// O  = X,  or clamp(<G, X>, -1, 1) X where aligned
/// u  = O / normalisation * scale
/// ```
///
/// [`Muon::default`] is Muon as PyTorch has it (`torch.optim.Muon`), and [`Muon::new`] the reference's. Weight decay is
/// `elementary`'s, after it; tensors that are no matrices have an [`Auxiliary`] chain beside it.
///
/// Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
///
/// Tensors of rank 0 and 1 pass through unchanged. Needs the whole matrix, so the chain is cut after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Muon {
    /// Decay of the momentum mu, in [0, 1). With 0 there is none, and nothing is kept. Default 0.95; 0 in [`Muon::new`].
    pub momentum: f64,
    /// Whether the momentum looks a step ahead. Default true; of no effect without momentum.
    pub nesterov: bool,
    /// Number of iterations, from 1 to 99. Default 5; 6 in [`Muon::new`].
    pub iterations: usize,
    /// Coefficients of the iterations. Default Jordan's.
    pub coefficients: Coefficients,
    /// Added to the norm that G is divided by; above 0. Default 1e-7.
    pub eps: f64,
    /// Type that the iterations round to. Default: the type of the computation.
    pub precision: Precision,
    /// Whether the result is multiplied by clamp(<G, X>, -1, 1), of leloykun's adaptive-muon. Default false; true in [`Muon::new`].
    pub aligned: bool,
    /// By what the result is divided. Default nothing; [`Normalisation::MovingAverage`] in [`Muon::new`].
    pub normalisation: Normalisation,
    /// Decay of mean squares, in [0, 1); of no effect without normalisation. Default 0.95.
    pub beta2: f64,
    /// By what the result is multiplied. Default [`Scale::Jordan`]; [`Scale::None`] in [`Muon::new`].
    pub scale: Scale,
    /// Parts of the names of tensors that are always left alone, such as embeddings and the output layer. Default none.
    /// In a study file, use the transform `only-for` instead.
    #[serde(skip)]
    pub except: &'static [&'static str],
    /// Reference 1.9.2: the mean square is a bfloat16 number, and every operation on it rounds to bfloat16. Default false.
    pub narrow_mean_square: bool,
}

impl Default for Muon {
    fn default() -> Self {
        Self {
            momentum: 0.95,
            nesterov: true,
            iterations: 5,
            coefficients: Coefficients::default(),
            eps: 1e-7,
            precision: Precision::default(),
            aligned: false,
            normalisation: Normalisation::default(),
            beta2: 0.95,
            scale: Scale::default(),
            except: &[],
            narrow_mean_square: false,
        }
    }
}

impl Muon {
    /// The reference's Muon, in full precision and with a moving average: of the gradient, in six iterations, with its mean square in
    /// place of a scale.
    pub fn new(beta2: f64) -> Self {
        Self {
            momentum: 0.0,
            nesterov: false,
            iterations: 6,
            aligned: true,
            normalisation: Normalisation::MovingAverage,
            beta2,
            scale: Scale::None,
            ..Self::default()
        }
    }

    /// Whether a tensor is a matrix, or can be seen as one.
    pub fn takes(tensor: &TensorInfo) -> bool {
        tensor.shape.len() >= 2
    }

    /// Whether a tensor is orthogonalised: Muon [`takes`](Self::takes) it, and its name contains nothing of `except`.
    ///
    /// ```
    /// use gradient_transform::{DType, TensorInfo};
    /// use muon_pp::{Muon, Precision};
    ///
    /// let muon = Muon { except: &["embedding"], precision: Precision::Bf16, ..Muon::default() };
    /// let of = |name: &str| TensorInfo { name: name.into(), shape: vec![50, 8], dtype: DType::F32, updates: 0 };
    /// assert!(Muon::takes(&of("embedding.weight")) && !muon.orthogonalises(&of("embedding.weight")));
    /// assert!(muon.orthogonalises(&of("hidden.weight")));
    /// ```
    pub fn orthogonalises(&self, tensor: &TensorInfo) -> bool {
        Self::takes(tensor) && !self.except.iter().any(|part| tensor.name.contains(part))
    }
}

impl<T: Real> Link<T> for Muon {
    fn name(&self) -> &str {
        "muon"
    }

    fn validate(&self) -> Result<()> {
        let decay = |option, value| {
            Error::check(option, value, (0.0..1.0).contains(&value), "at least 0 and below 1")
        };
        decay("momentum", self.momentum)?;
        decay("beta2", self.beta2)?;
        let iterations = self.iterations as f64;
        Error::check("iterations", iterations, (1..100).contains(&self.iterations), "from 1 to 99")?;
        Error::check("eps", self.eps, self.eps.is_finite() && self.eps > 0.0, "finite and above 0")?;
        self.coefficients.validate()
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        self.orthogonalises(tensor)
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        let spec = StateSpec::new().workspace("matrix");
        let spec = if self.momentum > 0.0 { spec.column("momentum", Storage::Compute) } else { spec };
        match self.normalisation {
            Normalisation::None => spec,
            Normalisation::MovingAverage | Normalisation::FirstUpdate => {
                spec.vector("mean_square", 1, Storage::Compute)
            }
            Normalisation::Neurons => {
                let rows = tensor.shape.first().copied().unwrap_or_default();
                spec.vector("mean_squares", rows, Storage::Compute)
            }
        }
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        let update = tile.update.values();
        let [matrix, kept @ ..] = &mut *tile.columns else { return };
        matrix.copy_from_slice(update);
        let [momentum] = kept else { return };
        let (decay, mu, weight): (T, T, T) =
            (self.decay(cx), T::of(self.momentum), T::of(1.0 - self.momentum));
        kernel::map2(momentum, update, |m, u| decay * m + weight * u);
        if self.nesterov {
            kernel::map2(matrix, momentum, |u, m| weight * u + mu * m);
        } else {
            matrix.copy_from_slice(momentum);
        }
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let Ok(matrix) = T::native_mut(state.columns[0].as_mut_slice()) else { return };
        let rows = cx.tensor.shape[0];
        let cols = matrix.len() / rows.max(1);
        if let Ok(matrix) = ArrayViewMut2::from_shape((rows, cols), &mut *matrix) {
            self.orthogonalise(matrix);
        }
        let scale = self.scale.factor(rows, cols);
        let factor = match self.normalisation {
            Normalisation::None => T::of(scale),
            Normalisation::Neurons => {
                let mut neurons = Neurons::new(self.beta2, cols);
                for (row, values) in matrix.chunks_exact_mut(cols.max(1)).enumerate() {
                    let squares = kernel::sum(values, |x| x * x);
                    let factor: T = neurons.factor(&mut state.vectors[0], row, squares);
                    kernel::map(values, |x| x * factor);
                }
                T::of(scale * neurons.rescaling())
            }
            Normalisation::MovingAverage | Normalisation::FirstUpdate => {
                let sum_of_squares: f64 = matrix.iter().map(|x| x.f64() * x.f64()).sum();
                let rms = (sum_of_squares / matrix.len() as f64).sqrt().max(1e-8);
                self.factor::<T>(cx, rms, &mut state.vectors[0]) * T::of(scale)
            }
        };
        kernel::map(matrix, |x| x * factor);
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.map2(tile.columns[0], |_, o| o);
    }

    fn formula(&self, _tensor: &TensorInfo, work: ElementWork, e: &mut FormulaElement<'_>) -> bool {
        if self.precision != Precision::Full {
            return false;
        }
        if work != ElementWork::Observe {
            e.update = e.column(0);
            return true;
        }
        let (u, mu, weight) = (e.update, self.momentum, 1.0 - self.momentum);
        if mu == 0.0 {
            e.state.push((0, u));
            return true;
        }
        let momentum = e.number(0) * e.column(1) + weight * u;
        let matrix = if self.nesterov { weight * u + mu * momentum } else { momentum };
        e.state.extend([(0, matrix), (1, momentum)]);
        true
    }

    fn formula_numbers(&self, cx: &Context<'_>, _scratch: &[Vec<T>]) -> FormulaNumbers<T> {
        FormulaNumbers { values: [self.decay(cx)].into_iter().collect(), variant: 0 }
    }

    fn matrix_work(&self, tensor: &TensorInfo) -> Option<MatrixWork> {
        let rows = tensor.shape[0];
        Some(self.work(rows, tensor.len() / rows.max(1)))
    }

    fn matrix_numbers(
        &self,
        cx: &Context<'_>,
        call: usize,
        numbers: &mut MatrixNumbers<T>,
        state: TensorState<'_, T>,
    ) {
        self.numbers(cx, call, numbers, state.vectors);
    }
}

/// Rows, each divided by the root of its average mean square.
struct Neurons {
    beta2: f64,
    cols: usize,
    /// Sums of squares, before and after.
    given: f64,
    normalised: f64,
}

impl Neurons {
    /// As the authors have it.
    const EPS: f64 = 1e-10;

    fn new(beta2: f64, cols: usize) -> Self {
        Self { beta2, cols, given: 0.0, normalised: 0.0 }
    }

    /// Moves the mean square of the next row on, and gives what the row is multiplied by.
    fn factor<T: Real>(&mut self, kept: &mut Buffer, row: usize, squares: f64) -> T {
        let mean = self.beta2 * kept.get::<T>(row).f64() + (1.0 - self.beta2) * squares / self.cols as f64;
        kept.set(row, T::of(mean));
        let factor = 1.0 / (mean.sqrt() + Self::EPS);
        self.given += squares;
        self.normalised += squares * factor * factor;
        T::of(factor)
    }

    /// Factor that restores the norm of the matrix, after all rows.
    fn rescaling(&self) -> f64 {
        self.given.sqrt() / (self.normalised.sqrt() + Self::EPS)
    }
}

impl Muon {
    /// Decay of the momentum. That is an average of d g, so it moves with d.
    fn decay<T: Real>(&self, cx: &Context<'_>) -> T {
        T::of(self.momentum * (cx.step.estimate.d_prev / cx.step.estimate.d))
    }

    /// Moves the mean square on, and gives what the update is multiplied by.
    fn factor<T: Real>(&self, cx: &Context<'_>, rms: f64, kept: &mut Buffer) -> T {
        let narrow = self.narrow_mean_square && cx.tensor.dtype != DType::F64;
        let round = |x: T| if narrow { x.round_bf16() } else { x };
        if self.normalisation == Normalisation::FirstUpdate {
            // What is kept is the first mean square; 0 says that there has been none.
            if kept.get::<T>(0) == T::zero() {
                kept.set(0, T::of(rms * rms));
            }
            return T::one() / kept.get::<T>(0).sqrt();
        }
        let (decay, weight) = cx.second_moment_weights(self.beta2);
        let old = round(kept.get::<T>(0) * T::of(decay));
        let mean_square = round(old + T::of(weight) * T::of(rms * rms));
        kept.set(0, mean_square);
        round(T::one() / round(round(mean_square.sqrt()) + T::of(1e-8)))
    }
}
