//! Draws the default chain as boxes in the order in which a gradient passes them, from what the optimizer says of itself.
//!
//! Run it with `cargo run --release -p examples --example chain_boxes`; it writes `book/src/chain.svg`.
#![allow(clippy::print_stdout)] // an example prints

use std::fmt::Write as _;
use std::path::Path;

use ablate::registry::Registry;
use anyhow::{Context, Result};
use gradient_transform::Parameter;
use prodigy_plus::ProdigyPlus;

const SHAPE: [usize; 2] = [64, 32];
const WIDTH: u32 = 330;
/// Characters of a line of a box.
const LINE: usize = 46;

/// A transform of the chain.
struct Link {
    name: String,
    /// Whether it needs sums over the whole tensor, so that another sweep begins after it.
    ends_a_sweep: bool,
    /// Its purpose and its state.
    lines: Vec<String>,
}

/// Lines of at most [`LINE`] characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= LINE => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The default chain, and its state after a step.
fn chain() -> Result<Vec<Link>> {
    let mut optimizer = ProdigyPlus::builder().build([("w", SHAPE)])?;
    let mut w = vec![1.0_f32; SHAPE.iter().product()];
    let gradient = w.clone();
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    let snapshot = optimizer.snapshot();
    let registry = Registry::shipped();
    let described = optimizer.describe_chain(0, &SHAPE)?;
    let links = described.split(" | ").map(|link| {
        let name = link.trim_end_matches(" ‖");
        let kind = registry.transforms().iter().find(|kind| kind.name == name);
        let kind = kind.with_context(|| format!("{name} is not registered"))?;
        let mut lines = wrapped(&kind.summary);
        let arrays = snapshot.tensors["w"].arrays.iter().filter_map(|(key, array)| {
            let array_name = key.strip_prefix(name)?.strip_prefix('/')?;
            Some(format!("{array_name}: {}", array.len()))
        });
        let arrays: Vec<String> = arrays.collect();
        lines.push(if arrays.is_empty() {
            "no state".to_owned()
        } else {
            format!("state: {}", arrays.join(", "))
        });
        Ok(Link { name: name.to_owned(), ends_a_sweep: name != link, lines })
    });
    links.collect()
}

fn text(svg: &mut String, y: u32, style: &str, text: &str) {
    let _ = writeln!(svg, r#"<text x="{}" y="{y}" {style}>{text}</text>"#, WIDTH / 2);
}

/// An arrow that ends at `y`.
fn arrow(svg: &mut String, y: u32) {
    let x = WIDTH / 2;
    let (from, neck) = (y - 18, y - 6);
    let _ = writeln!(svg, r#"<line x1="{x}" y1="{from}" x2="{x}" y2="{neck}" stroke="currentColor"/>"#);
    let _ = writeln!(svg, r#"<path d="M{} {neck}h8l-4 6z" fill="currentColor"/>"#, x - 4);
}

/// Draws the picture.
pub(crate) fn run(path: &Path) -> Result<()> {
    let mut svg = String::new();
    text(&mut svg, 16, "", "gradient");
    let mut y = 24;
    for link in chain()? {
        y += 18;
        arrow(&mut svg, y);
        let height = 30 + 16 * link.lines.len() as u32;
        let _ = writeln!(
            svg,
            r#"<rect x="6" y="{y}" width="{}" height="{height}" rx="5" fill="none" stroke="currentColor"/>"#,
            WIDTH - 12
        );
        text(&mut svg, y + 19, r#"font-weight="bold""#, &link.name);
        for (i, line) in link.lines.iter().enumerate() {
            text(&mut svg, y + 37 + 16 * i as u32, r#"font-size="12""#, line);
        }
        y += height;
        if link.ends_a_sweep {
            text(&mut svg, y + 21, r#"font-size="12""#, "‖ sums of the whole tensor: another sweep");
            y += 26;
        }
    }
    y += 18;
    arrow(&mut svg, y);
    text(&mut svg, y + 15, "", "parameter");
    let (height, font) =
        (y + 24, r#"font-family="sans-serif" font-size="14" text-anchor="middle" fill="currentColor""#);
    let head = format!(
        r#"<svg width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">"#
    );
    examples::written(path, || Ok(std::fs::write(path, format!("{head}\n<g {font}>\n{svg}</g>\n</svg>\n"))?))
}

fn main() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/chain.svg");
    run(&path)?;
    println!("{}", path.display());
    Ok(())
}
