//! A chain as text: its sweeps, the arrays that each reads and writes, and the transforms'
//! equations.

use std::fmt::{self, Write};

use crate::engine::plan::{Call, Plan, Sweep, Then};
use crate::error::Result;
use crate::link::Role;
use crate::link::compose::{Stages, stages};
use crate::link::context::{StepContext, TensorInfo};
use crate::link::equations::Equations;
use crate::memory::element::Real;
use crate::optimizer::Optimizer;

impl<T: Real> Optimizer<T> {
    /// A step of a group's chain over a tensor of the given shape, in the type of the computation, as text:
    /// the sweeps, the arrays that each reads and writes, and the equations of every transform, in order.
    ///
    /// For a transform with several formulas it shows the formula of ordinary steps, as far as it is known
    /// without the sums. A transform that works on tiles has no equations.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::with_decay(0.1), [("w", &[8, 4][..])])?;
    /// assert_eq!(optimizer.explain(0, &[8, 4])?, "\
    /// Sweep 1 reads g, y; writes y.
    ///     descent  u <- u + 0.1 y
    ///              y <- y - step_size u
    /// 12 bytes per element and step.
    /// ");
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuch`](crate::Error::NoSuch).
    pub fn explain(&self, group: usize, shape: &[usize]) -> Result<String> {
        let dtype = T::DTYPE;
        let tensor = TensorInfo { name: String::new(), shape: shape.to_vec(), dtype, updates: 0 };
        let stages = stages(&*self.group(group)?.chain);
        let plan = Plan::new(&stages, &StepContext::new(1, 1.0), &tensor);
        Ok(Explained { stages: &stages, plan: &plan, tensor: &tensor }.to_string())
    }
}

struct Explained<'a, T: Real> {
    stages: &'a Stages<'a, T>,
    plan: &'a Plan,
    tensor: &'a TensorInfo,
}

impl<T: Real> Explained<'_, T> {
    /// Names of the columns of a sweep: all of them, or those that change.
    fn columns(&self, sweep: &Sweep, stored: bool) -> Vec<String> {
        let used = sweep.columns.iter().filter(|column| !stored || column.stored);
        let name = |index: usize| {
            let stage = self.plan.stages.iter().position(|stage| stage.columns.contains(&index));
            let column = &self.plan.columns[index];
            let every = if column.every > 1 { format!(" (every {}th)", column.every) } else { String::new() };
            format!("{}/{}{every}", stage.map_or("", |i| self.stages[i].name()), column.name)
        };
        used.map(|column| name(column.index)).collect()
    }

    /// The equations of a transform in a sweep; none if it is written for tiles.
    fn equations(&self, call: &Call, sweep: &Sweep) -> Option<Vec<String>> {
        let transform = &self.stages[call.stage];
        let own = transform.equations(self.tensor);
        if own == Equations::default() {
            return None;
        }
        let Equations { measure, update, state, displace, write, .. } = own;
        // A lagged transform measures in the last sweep.
        let lags = self.plan.stages[call.stage].role == Role::Map;
        let measures = if lags { call.then == Then::Commit } else { call.observes };
        let measure = if measures { measure } else { Vec::new() };
        let then = match call.then {
            Then::Nothing => Vec::new(),
            Then::Emit => update,
            Then::Commit => [update, state].concat(),
            Then::Direct if sweep.writer.is_some() => [update, write].concat(),
            Then::Direct => update,
            Then::Displace => [update, displace].concat(),
        };
        Some([measure, then].concat())
    }

    /// A writer's equations for when the transforms after it are done.
    fn written(&self, sweep: &Sweep) -> Option<(&str, Vec<String>)> {
        let call = &sweep.calls[sweep.writer?];
        let transform = &self.stages[call.stage];
        (call.then == Then::Displace)
            .then(|| (transform.name(), transform.equations(self.tensor).write_displaced))
    }
}

impl<T: Real> fmt::Display for Explained<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.stages.iter().map(|stage| stage.name().len()).max().unwrap_or_default();
        for sweep in &self.plan.sweeps {
            let parameter = |is: bool| is.then(|| "y".to_owned());
            let reads = std::iter::once("g".to_owned())
                .chain(parameter(sweep.parameter))
                .chain(self.columns(sweep, false));
            write!(f, "Sweep {} reads {}", sweep.number + 1, reads.collect::<Vec<_>>().join(", "))?;
            let written: Vec<String> =
                parameter(sweep.writer.is_some()).into_iter().chain(self.columns(sweep, true)).collect();
            let written = written.join(", ");
            writeln!(f, "{}{written}.", if written.is_empty() { "" } else { "; writes " })?;
            for call in &sweep.calls {
                let name = self.stages[call.stage].name();
                let lines = self.equations(call, sweep).unwrap_or_else(|| vec!["(works on tiles)".into()]);
                list(f, name, &lines, width)?;
            }
            if let Some((name, lines)) = self.written(sweep) {
                list(f, name, &lines, width)?;
            }
        }
        let (len, dtype) = (self.tensor.len(), self.tensor.dtype);
        let stored = |column: usize| self.plan.columns[column].storage.dtype::<T>(dtype);
        let bytes = self.plan.bytes(len, dtype, dtype, stored);
        writeln!(f, "{} bytes per element and step.", Rounded(bytes as f64 / len.max(1) as f64))
    }
}

/// Equations next to a name.
fn list(f: &mut fmt::Formatter<'_>, name: &str, lines: &[String], width: usize) -> fmt::Result {
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    names.zip(lines).try_for_each(|(name, line)| writeln!(f, "    {name:width$}  {line}"))
}

/// A number with at most one digit after the point.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write!(text, "{:.1}", self.0)?;
        f.write_str(text.strip_suffix(".0").unwrap_or(&text))
    }
}
