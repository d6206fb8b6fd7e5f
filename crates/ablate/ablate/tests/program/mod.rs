//! The program, as tests start it.

use std::process::Command;

/// The program without the variables of a scheduler. With a number of threads it doesn't start itself again, and can be
/// stopped by the number of its process.
pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ablate"));
    program.env("RAYON_NUM_THREADS", "1");
    for name in ["HQ_TASK_ID", "JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"] {
        program.env_remove(name);
    }
    program
}
