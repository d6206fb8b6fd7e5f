//! Number of threads of a measurement.

use anyhow::{Result, ensure};

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Two, if there are as many cores.
///
/// ```
/// assert!((1..=2).contains(&step_bench::threads::usual()));
/// ```
pub fn usual() -> usize {
    cores().min(2)
}

/// Gives rayon's pool this many threads.
///
/// ```
/// use step_bench::threads::{give, usual};
///
/// assert!(give(100_000_000).is_err());
/// give(usual())?;
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// # Errors
/// A number of 0, or above the number of cores; a pool that has threads already.
pub fn give(asked: usize) -> Result<()> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(within(asked, cores())?).build_global()?)
}

/// More threads than cores would measure how they wait for each other, and very many block the machine.
fn within(asked: usize, cores: usize) -> Result<usize> {
    let here = if cores == 1 { "is 1 core".to_owned() } else { format!("are {cores} cores") };
    ensure!((1..=cores).contains(&asked), "--threads {asked}: there {here} here; give 1 to {cores}");
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_as_many_threads_as_cores_and_one_at_least() {
        assert_eq!((within(1, 4).unwrap(), within(4, 4).unwrap(), within(1, 1).unwrap()), (1, 4, 1));
        for (asked, cores) in [(0, 4), (5, 4), (100_000, 4), (2, 1)] {
            let error = within(asked, cores).unwrap_err().to_string();
            assert!(
                error.contains(&format!("--threads {asked}")) && error.contains(&format!("{cores} core")),
                "{error}"
            );
        }
    }
}
