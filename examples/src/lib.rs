//! The examples themselves are the files beside this package's manifest: `cargo run --release -p examples --example quickstart`,
//! `custom_transform`, `several_groups`, `resume`.
//!
//! This library has what several of them share. Its doctests are the code blocks of the book, so that
//! `cargo test` compiles and runs every one of them.

/// Size of the letters of a picture for `plotters`, which draws them smaller by a quarter: 13 pixels.
pub const LETTERS: u32 = 16;

/// A picture with the colours of the page that it is on: dark letters and lines on a light ground, and light ones on a dark one.
pub fn themed(svg: &str) -> String {
    const STYLE: &str = "<style>.plot{color:#24292f}@media (prefers-color-scheme:dark){.plot{color:#d8dce2}}</style>";
    let lines = svg.lines().filter(|line| !(line.starts_with("<rect") && line.contains("fill=\"#FFFFFF\"")));
    let lines: Vec<String> = lines.map(|line| line.replace("#000000", "currentColor")).collect();
    lines.join("\n").replacen("<svg ", "<svg class=\"plot\" ", 1).replacen(">\n", &format!(">\n{STYLE}\n"), 1) + "\n"
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
    introduction = "../../book/src/introduction.md";
    start = "../../book/src/start.md";
    d_does_not_grow = "../../book/src/d-does-not-grow.md";
    migrating = "../../book/src/migrating.md";
    optax = "../../book/src/optax.md";
    options = "../../book/src/options.md";
    own_transform = "../../book/src/own-transform.md";
    design = "../../book/src/design.md";
    walk_through = "../../book/src/walk-through.md";
    determinism = "../../book/src/determinism.md";
    deviations = "../../book/src/deviations.md";
    fidelity = "../../book/src/fidelity.md";
    robustness = "../../book/src/robustness.md";
}
