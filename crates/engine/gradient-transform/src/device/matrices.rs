//! Work of transforms on whole matrices between sweeps, for all tensors with the same work at once.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::smallvec;

use crate::device::optimizer::device;
use crate::device::step::run;
use crate::device::{
    AlongSum, DeviceParameter, ElementFormula, Executor, OnDevice, ProductArrays, SweepBatch, SweepFormula,
    TensorSweep,
};
use crate::engine::tensor::{Run, Tensor};
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::link::context::StepContext;
use crate::link::matrices::{Array, Each, Matrix, MatrixNumbers, MatrixStep, MatrixWork, Product};
use crate::link::state::Storage;
use crate::memory::element::Real;
use crate::memory::rounding::Rounding;
use crate::optimizer::Optimizer;

/// Elements of workspace of tensors that are worked on together, and of what is kept between steps; one tensor may have more. In float32,
/// 256 MiB.
const TOGETHER: usize = 1 << 26;

/// Programs that were made, each once, and workspace.
pub(super) struct Matrices<A> {
    /// Whether a transform has such work.
    any: bool,
    /// By tensor and stage.
    known: HashMap<[usize; 2], Option<Arc<Program>>>,
    distinct: Vec<Arc<Program>>,
    /// Arrays that are not in use.
    spare: Vec<A>,
}

/// A [`MatrixWork`] with the formulas of its steps.
struct Program {
    work: MatrixWork,
    /// Those of `each`, in order.
    formulas: Vec<Arc<SweepFormula>>,
}

/// A tensor that is worked on.
struct Due<'a, T: 'static, A> {
    tensor: &'a mut Tensor<T>,
    run: &'a Run<'a, T>,
    stage: usize,
    columns: &'a mut [A],
    numbers: MatrixNumbers<T>,
}

/// Tensors with the same work.
type Batch<'a, T, A> = (Arc<Program>, Vec<Due<'a, T, A>>);

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Does the work of stages whose sums the latest sweep has taken.
    pub(super) fn work_on_matrices(
        &mut self,
        until: Option<&str>,
        parameters: &[DeviceParameter<'_, E::Array>],
    ) -> Result<()> {
        let Self { optimizer, executor, columns, matrices, .. } = self;
        if !matrices.any {
            return Ok(());
        }
        let Optimizer { groups, tensors, settings, pool, .. } = optimizer;
        let chains: Vec<_> = groups.iter().map(|group| stages(&*group.chain)).collect();
        let runs = groups.iter().zip(&chains).map(|(group, stages)| run(group, stages, settings, pool));
        let runs: Vec<Run<'_, T>> = runs.collect();
        let mut batches: Vec<Batch<'_, T, E::Array>> = Vec::new();
        for (i, ((tensor, parameter), columns)) in tensors.iter_mut().zip(parameters).zip(columns).enumerate()
        {
            if parameter.gradient.is_none() || tensor.progress.refused {
                continue;
            }
            let run = &runs[tensor.group];
            let Some(stage) = tensor.reduction_to_seal(run, until) else { continue };
            let Some(program) = matrices.program([i, stage], run, tensor) else { continue };
            let columns = &mut columns[tensor.columns_of(stage)];
            let due = Due { tensor, run, stage, columns, numbers: MatrixNumbers::default() };
            match batches.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &program)) {
                Some((_, batch)) => batch.push(due),
                None => batches.push((program, vec![due])),
            }
        }
        for (program, mut batch) in batches {
            for due in batch.chunks_mut(program.together()) {
                matrices.run(executor, &program, due)?;
            }
            batch.into_iter().for_each(|due| due.tensor.note_multiplied(due.stage));
        }
        Ok(())
    }
}

impl<A> Matrices<A> {
    /// For an optimizer.
    ///
    /// # Errors
    /// [`Error::NoProducts`]; [`Error::InvalidChain`] for work on a column of another type.
    pub(super) fn new<T: Real, E: Executor<T, Array = A>>(
        optimizer: &Optimizer<T>,
        executor: &mut E,
    ) -> Result<Self> {
        let usual = StepContext::new(2, 1.0);
        let mut any = false;
        for tensor in &optimizer.tensors {
            let stages = stages(&*optimizer.groups[tensor.group].chain);
            for stage in stages.iter().filter(|stage| !stage.is_idle(&usual, &tensor.info)) {
                let Some(work) = stage.matrix_work(&tensor.info) else { continue };
                any = true;
                let columns = stage.state(&tensor.info).columns;
                let fits =
                    |column: usize| columns[column].storage == Storage::Compute && columns[column].every == 1;
                if !work.columns().all(fits) {
                    let reason =
                        "its work on matrices needs columns in the type of the computation, with every element".into();
                    return Err(Error::InvalidChain { chain: stage.name().into(), reason });
                }
                let product = work.steps.iter().find_map(MatrixStep::product);
                if product.is_some_and(|product| executor.multiply(product, &mut []).is_none()) {
                    return Err(no_products(stage.name()));
                }
            }
        }
        Ok(Self { any, known: HashMap::new(), distinct: Vec::new(), spare: Vec::new() })
    }

    fn program<T: Real>(
        &mut self,
        [tensor, stage]: [usize; 2],
        run: &Run<'_, T>,
        of: &Tensor<T>,
    ) -> Option<Arc<Program>> {
        let Self { known, distinct, .. } = self;
        let program = known.entry([tensor, stage]).or_insert_with(|| {
            let work = run.stages[stage].matrix_work(&of.info)?;
            if let Some(known) = distinct.iter().find(|known| known.work == work) {
                return Some(Arc::clone(known));
            }
            let made = Arc::new(Program::new(work, distinct));
            distinct.push(Arc::clone(&made));
            Some(made)
        });
        program.clone()
    }

    fn run<T: Real, E: Executor<T, Array = A>>(
        &mut self,
        executor: &mut E,
        program: &Program,
        due: &mut [Due<'_, T, A>],
    ) -> Result<()> {
        let workspaces = due.iter().map(|_| self.workspace(executor, &program.work));
        let mut workspaces: Vec<Vec<A>> = workspaces.collect::<Result<_>>()?;
        let mut formulas = program.formulas.iter();
        let mut call = 0;
        for step in &program.work.steps {
            let tensors = due.iter_mut().zip(&mut workspaces);
            match step {
                MatrixStep::Each(each) => {
                    let Some(formula) = formulas.next() else { unreachable!("each has a formula") };
                    let shape = each.into.shape();
                    let sweeps = tensors.map(|(due, workspace)| due.sweep(each, &shape, workspace));
                    let batch = SweepBatch { formula: Arc::clone(formula), tensors: sweeps.collect() };
                    executor.sweep(&mut [batch]).map_err(device)?;
                }
                MatrixStep::Product(product) => {
                    let mut arrays: Vec<ProductArrays<'_, A>> =
                        tensors.map(|(due, workspace)| due.product(product, workspace)).collect();
                    let Some(done) = executor.multiply(product, &mut arrays) else {
                        return Err(no_products(due[0].run.stages[due[0].stage].name()));
                    };
                    done.map_err(device)?;
                }
                MatrixStep::Numbers => {
                    for Due { tensor, run, stage, numbers, .. } in due.iter_mut() {
                        tensor.matrix_numbers(run, *stage, call, numbers);
                        numbers.sums.clear();
                        numbers.row_sums.clear();
                    }
                    call += 1;
                }
            }
        }
        self.spare.extend(workspaces.into_iter().flatten());
        Ok(())
    }

    /// Workspace for a tensor.
    fn workspace<T: Real, E: Executor<T, Array = A>>(
        &mut self,
        executor: &mut E,
        work: &MatrixWork,
    ) -> Result<Vec<A>> {
        let lens = work.workspace.iter().map(|[rows, cols]| rows * cols);
        lens.map(|len| {
            if let Some(at) = self.spare.iter().position(|spare| E::len(spare) == len) {
                return Ok(self.spare.swap_remove(at));
            }
            if self.spare.iter().map(E::len).sum::<usize>() > TOGETHER {
                self.spare.clear();
            }
            executor.zeros(T::DTYPE, len).map_err(device)
        })
        .collect()
    }
}

impl Program {
    fn new(work: MatrixWork, others: &[Arc<Self>]) -> Self {
        let each = work
            .steps
            .iter()
            .filter_map(|step| if let MatrixStep::Each(each) = step { Some(each) } else { None });
        let mut formulas: Vec<Arc<SweepFormula>> = Vec::new();
        for each in each {
            let made = formula(each);
            let mut known = others.iter().flat_map(|other| &other.formulas).chain(&formulas);
            let known = known.find(|known| ***known == made).cloned();
            formulas.push(known.unwrap_or_else(|| Arc::new(made)));
        }
        Self { work, formulas }
    }

    /// Number of tensors that are worked on together.
    fn together(&self) -> usize {
        let elements: usize = self.work.workspace.iter().map(|[rows, cols]| rows * cols).sum();
        (TOGETHER / elements.max(1)).max(1)
    }
}

impl MatrixWork {
    /// Columns among its matrices.
    fn columns(&self) -> impl Iterator<Item = usize> {
        let matrices = |step: &MatrixStep| match step {
            MatrixStep::Each(each) => vec![each.into, each.by],
            MatrixStep::Product(Product { into, left, right, plus, .. }) => {
                [*into, *left, *right].into_iter().chain(plus.map(|(_, plus)| plus)).collect()
            }
            MatrixStep::Numbers => Vec::new(),
        };
        let column =
            |matrix: Matrix| if let Array::Column(place) = matrix.array { Some(place) } else { None };
        self.steps.iter().flat_map(matrices).filter_map(column)
    }
}

impl MatrixStep {
    fn product(&self) -> Option<&Product> {
        if let Self::Product(product) = self { Some(product) } else { None }
    }
}

fn no_products(transform: &str) -> Error {
    Error::NoProducts { transform: transform.into() }
}

/// The formula of a sweep that changes one matrix by another.
fn formula(each: &Each) -> SweepFormula {
    let row_sum = |value| AlongSum { array: 0, value, axes: [0, 1], lacks_first: false };
    let elements = ElementFormula {
        every: 1,
        columns: Vec::new(),
        parameter: each.next,
        sums: each.sums.iter().copied().enumerate().collect(),
        sums_along: each.row_sum.map(row_sum).into_iter().collect(),
    };
    let along = if each.by_row || each.row_sum.is_some() { vec![1] } else { Vec::new() };
    SweepFormula { nodes: each.nodes.clone(), elements, sampled: Vec::new(), columns: Vec::new(), along }
}

impl<T: Real, A> Due<'_, T, A> {
    fn sweep<'s>(
        &'s mut self,
        each: &Each,
        shape: &'s [usize],
        workspace: &'s mut [A],
    ) -> TensorSweep<'s, T, A> {
        let MatrixNumbers { sums, row_sums, numbers, row_numbers } = &mut self.numbers;
        let first = sums.len();
        sums.resize(first + each.sums.len(), 0.0);
        if each.row_sum.is_some() {
            row_sums.clear();
            row_sums.resize(shape[0], T::zero());
        }
        let (parameter, [gradient]) = arrays(self.columns, workspace, each.into, [each.by]);
        TensorSweep {
            shape,
            numbers: numbers.iter().copied().collect(),
            along: smallvec![&row_numbers[..]],
            parameter,
            gradient,
            columns: &mut [],
            rounding: Rounding::Nearest,
            parameter_stream: 0,
            column_streams: smallvec![],
            sums: &mut sums[first..],
            sums_along: smallvec![&mut row_sums[..]],
        }
    }

    fn product<'s>(&'s mut self, product: &Product, workspace: &'s mut [A]) -> ProductArrays<'s, A> {
        let Product { into, left, right, plus, .. } = *product;
        let added = plus.map_or(left, |(_, plus)| plus);
        let (into, [left, right, added]) = arrays(self.columns, workspace, into, [left, right, added]);
        ProductArrays { into, left, right, plus: plus.map(|_| added) }
    }
}

/// The array that is written, and those that are read.
fn arrays<'a, A, const N: usize>(
    columns: &'a mut [A],
    workspace: &'a mut [A],
    into: Matrix,
    others: [Matrix; N],
) -> (&'a mut A, [&'a A; N]) {
    let first = columns.len();
    let place = |matrix: Matrix| match matrix.array {
        Array::Column(place) => place,
        Array::Workspace(place) => first + place,
    };
    let mut all: Vec<Option<&mut A>> = columns.iter_mut().chain(workspace).map(Some).collect();
    let Some(into) = all[place(into)].take() else { unreachable!("nothing was taken before") };
    let all: Vec<Option<&A>> = all.into_iter().map(|array| array.map(|array| &*array)).collect();
    let other = |matrix| match all[place(matrix)] {
        Some(array) => array,
        None => unreachable!("`MatrixWork` refuses a result in the array of another matrix"),
    };
    (into, others.map(other))
}
