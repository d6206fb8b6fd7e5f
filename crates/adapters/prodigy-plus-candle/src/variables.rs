use candle_core::Var;
use candle_nn::VarMap;

/// The variables of a map, sorted by their names.
///
/// `VarMap::all_vars` has them in a different order in every process, and without names. The order of sums
/// depends on the position, and state and the random numbers of the rounding on the name: to repeat or resume
/// a run, both must be fixed.
///
/// Panics if a thread panicked while it held the map, like every use of a `VarMap`.
///
/// ```
/// # use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap, linear};
/// let map = VarMap::new();
/// let layer = linear(2, 1, VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu).pp("head"))?;
/// let variables = prodigy_plus_candle::named_variables(&map);
/// let names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names, ["head.bias", "head.weight"]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn named_variables(map: &VarMap) -> Vec<(String, Var)> {
    let data = map.data().lock().unwrap();
    let mut variables: Vec<(String, Var)> =
        data.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    variables
}

/// Names and shapes, for the engine's constructors and `Options::build_groups`. Integer variables are left
/// out, because they have no gradients.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use prodigy_plus_candle::shapes;
///
/// let variable = |dtype| Var::zeros((2, 3), dtype, &Device::Cpu);
/// let variables = [("w".to_owned(), variable(DType::F32)?), ("batches".to_owned(), variable(DType::I64)?)];
/// assert!(shapes(&variables).eq([("w", &[2, 3][..])]));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn shapes(variables: &[(String, Var)]) -> impl Iterator<Item = (&str, &[usize])> {
    variables.iter().filter(|(_, var)| var.dtype().is_float()).map(|(name, var)| (name.as_str(), var.dims()))
}
