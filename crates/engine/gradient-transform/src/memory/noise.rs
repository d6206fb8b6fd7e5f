//! Standard normal random numbers, as a function of their position.

use rayon::prelude::*;

use crate::memory::element::Real;
use crate::memory::rounding::{Stream, hash_name, mix64};

/// Number of elements that a thread takes at a time.
const PART: usize = 1 << 14;

/// The standard normal random number of an element: the value in a [`Column::NORMAL`](crate::Column::NORMAL),
/// before it is rounded to the type of the computation.
///
/// It depends on the seed ([`Settings::seed`](crate::Settings::seed)), the parameter's name, the column's
/// name as `transform/field`, the number of earlier gradients of the tensor, and the element's index in
/// row-major order.
///
/// ```
/// use gradient_transform::normal;
///
/// let numbers: Vec<f64> = (0..10_000).map(|element| normal(3, "w", "gradient-noise/noise", 0, element)).collect();
/// let mean = |power| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;
/// assert!(mean(1).abs() < 0.05 && (mean(2) - 1.0).abs() < 0.05 && (mean(4) - 3.0).abs() < 0.3);
/// ```
pub fn normal(seed: u64, parameter: &str, column: &str, updates: u64, element: usize) -> f64 {
    of_key(Stream::new(seed, hash_name(parameter), hash_name(column), updates).key(), element)
}

/// Box and Muller's, by the functions of the crate `libm`, which have the same bits on every machine.
fn of_key(key: u64, element: usize) -> f64 {
    const UNIT: f64 = 1.0 / (1_u64 << 32) as f64;
    let bits = mix64(key.wrapping_add((element as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let (radius, angle) = ((bits >> 32) as f64 + 0.5, (bits & 0xffff_ffff) as f64);
    (-2.0 * libm::log(radius * UNIT)).sqrt() * libm::cos(std::f64::consts::TAU * (angle * UNIT))
}

/// Numbers for all elements of a tensor.
pub(crate) fn normals<T: Real>(stream: Stream, len: usize, parallel: bool) -> Vec<T> {
    let mut numbers = vec![T::zero(); len];
    let fill = |(part, numbers): (usize, &mut [T])| {
        let elements = part * PART..;
        numbers.iter_mut().zip(elements).for_each(|(number, element)| {
            *number = T::of(of_key(stream.key(), element));
        });
    };
    if parallel {
        numbers.par_chunks_mut(PART).enumerate().for_each(fill);
    } else {
        numbers.chunks_mut(PART).enumerate().for_each(fill);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_normal_and_those_of_neighbours_steps_and_tensors_have_nothing_in_common() {
        let n = 1 << 16;
        let column = |parameter: &str, updates: u64| -> Vec<f64> {
            (0..n).map(|element| normal(1, parameter, "a/b", updates, element)).collect()
        };
        let x = column("w", 0);
        let mean = |f: fn(f64) -> f64| x.iter().map(|&x| f(x)).sum::<f64>() / n as f64;
        // Five standard deviations of the mean of each power.
        let within = 5.0 / (n as f64).sqrt();
        assert!(mean(|x| x).abs() < within);
        assert!((mean(|x| x * x) - 1.0).abs() < within * 2.0_f64.sqrt());
        assert!(mean(|x| x.powi(3)).abs() < within * 15.0_f64.sqrt());
        assert!((mean(|x| x.powi(4)) - 3.0).abs() < within * 96.0_f64.sqrt());
        // 4.55 % are more than two standard deviations away.
        let far = x.iter().filter(|x| x.abs() > 2.0).count() as f64 / n as f64;
        assert!((far - 0.0455).abs() < within * 0.0455_f64.sqrt(), "{far}");
        let correlation = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n as f64;
        for (name, value) in [
            ("neighbours", correlation(&x[1..], &x)),
            ("steps", correlation(&column("w", 1), &x)),
            ("tensors", correlation(&column("v", 0), &x)),
        ] {
            assert!(value.abs() < within, "{name}: {value}");
        }
    }

    #[test]
    fn numbers_of_a_tensor_are_those_of_its_elements_on_one_thread_and_on_several() {
        let stream = Stream::new(7, hash_name("w"), hash_name("a/b"), 3);
        let n = 3 * PART + 5;
        let alone = normals::<f32>(stream, n, false);
        assert!(alone == normals::<f32>(stream, n, true));
        assert!(alone.iter().enumerate().all(|(i, &x)| x == normal(7, "w", "a/b", 3, i) as f32));
    }
}
