//! Draws one step of Schedule-Free on one weight: where z, y and x lie on a line before it and after it.
//!
//! Run it with `cargo run --release -p examples --example averaging_step`; it writes `book/src/tutorial/averaging-step.svg`.
#![allow(clippy::print_stdout)] // an example prints

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use gradient_transform::{Optimizer, Parameter};
use schedule_free::ScheduleFree;

const WIDTH: f64 = 330.0;
const BETA: f64 = 0.7;
const RATE: f32 = 0.4;
/// The step that is drawn.
const STEP: usize = 4;
/// Heights of the two lines.
const ROWS: [f64; 2] = [62.0, 182.0];

/// The three points of a weight.
#[derive(Clone, Copy)]
pub(crate) struct Points {
    pub(crate) z: f64,
    pub(crate) y: f64,
    pub(crate) x: f64,
}

/// The points before and after a step, on the loss w^2/2 from 1; and the averaging weight of the step.
pub(crate) fn points() -> Result<([Points; 2], f64)> {
    let mut optimizer = Optimizer::new(ScheduleFree::new(BETA), [("w", [1])])?;
    optimizer.set_lr(0, f64::from(RATE))?;
    let mut y = [1.0_f32];
    let mut both = [Points { z: 1.0, y: 1.0, x: 1.0 }; 2];
    for _ in 0..STEP {
        let gradient = y;
        optimizer.step(&mut [Parameter::slice(&mut y, Some(&gradient))])?;
        let mut x = [0.0];
        optimizer.evaluation_point(0, &y, &mut x)?;
        let z = optimizer.snapshot().tensors["w"].arrays["schedule-free/z"].get(0);
        both = [both[1], Points { z, y: f64::from(y[0]), x: f64::from(x[0]) }];
    }
    let [before, after] = both;
    Ok((both, (before.x - after.x) / (before.x - after.z)))
}

/// Draws the picture.
pub(crate) fn run(path: &Path) -> Result<()> {
    let ([before, after], c) = points()?;
    // The minimum, 0, is at the left.
    let at = |w: f64| 26.0 + (WIDTH - 52.0) * w / before.x;
    let mut svg = String::new();
    for (points, row, title) in [(before, ROWS[0], "before the step"), (after, ROWS[1], "after it")] {
        let _ = writeln!(
            svg,
            r#"<line x1="8" y1="{row}" x2="{}" y2="{row}" stroke="currentColor" opacity="0.5"/>"#,
            WIDTH - 8.0
        );
        let _ = writeln!(svg, r#"<path d="M{:.1} {}v10" stroke="currentColor"/>"#, at(0.0), row - 5.0);
        let _ = writeln!(svg, r#"<text x="8" y="{}">{title}</text>"#, row - 42.0);
        for (name, w, color) in
            [("z", points.z, "#8c8c8c"), ("y", points.y, "#d55e00"), ("x", points.x, "#0082c8")]
        {
            let _ = writeln!(svg, r#"<circle cx="{:.1}" cy="{row}" r="5" fill="{color}"/>"#, at(w));
            let _ = writeln!(
                svg,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{name}</text>"#,
                at(w),
                row - 12.0
            );
        }
    }
    let _ = writeln!(svg, r#"<text x="{:.1}" y="{}" text-anchor="middle">0</text>"#, at(0.0), ROWS[0] - 12.0);
    // From where a point is to where it goes.
    for (from, to, color) in
        [(before.z, after.z, "#8c8c8c"), (before.y, after.y, "#d55e00"), (before.x, after.x, "#0082c8")]
    {
        let ((x1, y1), (x2, y2)) = ((at(from), ROWS[0] + 9.0), (at(to), ROWS[1] - 29.0));
        let _ = writeln!(
            svg,
            r#"<line x1="{x1:.1}" y1="{y1}" x2="{x2:.1}" y2="{y2}" stroke="{color}" stroke-width="1.5" stroke-dasharray="4 3"/>"#
        );
    }
    let lines = [
        format!("z moves by {RATE} times the gradient at y"),
        format!("x moves {c:.2} of the way to z: the mean of all z"),
        format!("y lies {:.1} of the way from x to z", 1.0 - BETA),
    ];
    for (i, line) in lines.iter().enumerate() {
        let _ = writeln!(
            svg,
            r#"<text x="8" y="{}" font-size="12">{line}</text>"#,
            ROWS[1] + 26.0 + 18.0 * i as f64
        );
    }
    let head = format!(
        r#"<svg width="{WIDTH}" height="254" viewBox="0 0 {WIDTH} 254" xmlns="http://www.w3.org/2000/svg">"#
    );
    let font = r#"font-family="sans-serif" font-size="13" fill="currentColor""#;
    examples::written(path, || Ok(std::fs::write(path, format!("{head}\n<g {font}>\n{svg}</g>\n</svg>\n"))?))
}

fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/tutorial/averaging-step.svg");
    run(&path)?;
    println!("{}", path.display());
    Ok(())
}
