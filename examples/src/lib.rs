//! The examples themselves are the files beside this package's manifest: `cargo run --release -p examples --example quickstart`,
//! `custom_transform`, `several_groups`, `resume`.
//!
//! This library has what several of them share. Its doctests are the code blocks of the book, so that
//! `cargo test` compiles and runs every one of them.

use std::error::Error;
use std::path::Path;

use anyhow::{Result, anyhow};

/// Size of the letters of a picture for `plotters`, which draws them smaller by a quarter: 13 pixels.
pub const LETTERS: u32 = 16;

/// A picture with the colours of the page that it is on: dark letters and lines on a light ground, and light ones on a dark one.
pub fn themed(svg: &str) -> String {
    const STYLE: &str =
        "<style>.plot{color:#24292f}@media (prefers-color-scheme:dark){.plot{color:#d8dce2}}</style>";
    let lines = svg.lines().filter(|line| !(line.starts_with("<rect") && line.contains("fill=\"#FFFFFF\"")));
    let lines: Vec<String> = lines.map(|line| line.replace("#000000", "currentColor")).collect();
    lines.join("\n").replacen("<svg ", "<svg class=\"plot\" ", 1).replacen(">\n", &format!(">\n{STYLE}\n"), 1)
        + "\n"
}

/// Has a picture drawn to that path, and gives it the colours of the page.
pub fn written(path: &Path, draw: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<()> {
    let in_colours = || Ok(std::fs::write(path, themed(&std::fs::read_to_string(path)?))?);
    draw().and_then(|()| in_colours()).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

macro_rules! doctested {
    ($($name:ident = $file:literal;)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!($file)]
            mod $name {}
        )*
    };
}

doctested! {
    choose_two_lines = "../../book/src/choose/two-lines.md";
    how_to_d_does_not_grow = "../../book/src/how-to/d-does-not-grow.md";
    how_to_devices = "../../book/src/how-to/devices.md";
    how_to_evaluation = "../../book/src/how-to/evaluation.md";
    how_to_freezing = "../../book/src/how-to/freezing.md";
    how_to_from_pytorch = "../../book/src/how-to/from-pytorch.md";
    how_to_gradients = "../../book/src/how-to/gradients.md";
    how_to_groups = "../../book/src/how-to/groups.md";
    how_to_migrating = "../../book/src/how-to/migrating.md";
    how_to_optax = "../../book/src/how-to/optax.md";
    how_to_reading_d = "../../book/src/how-to/reading-d.md";
    how_to_resume = "../../book/src/how-to/resume.md";
    how_to_schedules = "../../book/src/how-to/schedules.md";
    how_to_slices = "../../book/src/how-to/slices.md";
    internals_design = "../../book/src/internals/design.md";
    internals_determinism = "../../book/src/internals/determinism.md";
    internals_fidelity = "../../book/src/internals/fidelity.md";
    reference_options = "../../book/src/reference/options.md";
    tutorial_first_training = "../../book/src/tutorial/first-training.md";
    tutorial_own_transform = "../../book/src/tutorial/own-transform.md";
}
