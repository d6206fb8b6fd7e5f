//! The examples themselves are the files beside this package's manifest: `cargo run --release -p examples --example quickstart`,
//! `custom_transform`, `several_groups`, `resume`.
//!
//! This library is empty. Its doctests are the code blocks of the book, so that
//! `cargo test` compiles and runs every one of them.

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
