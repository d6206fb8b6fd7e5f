//! The tensors to step.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// The shapes of a preset (`large`, `gpt`, `tiny`), or those of a file: a line each, such as `24 x 768x768` or `10`.
pub fn shapes(name: &str) -> Result<Vec<Vec<usize>>> {
    let text = match name {
        "large" => "1 x 4096x4096".to_owned(),
        "gpt" => "24 x 768x768\n6 x 3072x768\n6 x 768x3072\n50 x 768".to_owned(),
        "tiny" => "4 x 128x64\n4 x 64\n4 x 64x64\n4 x 64\n4 x 10x64\n4 x 10".to_owned(),
        file => std::fs::read_to_string(Path::new(file)).with_context(|| {
            format!("there is no shape preset `{file}` (large, gpt, tiny), and no such file could be read")
        })?,
    };
    let mut shapes = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (count, shape) = line.split_once(" x ").unwrap_or(("1", line));
        let parsed: Result<Vec<usize>, _> = shape.trim().split('x').map(str::parse).collect();
        let (Ok(count), Ok(shape)) = (count.trim().parse::<usize>(), parsed) else {
            bail!("`{line}` is not a line of shapes such as `24 x 768x768` or `10`");
        };
        shapes.extend(std::iter::repeat_n(shape, count));
    }
    if shapes.is_empty() {
        bail!("`{name}` names no shapes");
    }
    Ok(shapes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_documented_number_of_parameters() {
        let count = |name| shapes(name).unwrap().iter().map(|s| s.iter().product::<usize>()).sum::<usize>();
        assert_eq!(count("large"), 16_777_216);
        assert_eq!(count("gpt"), 24 * 768 * 768 + 12 * 768 * 3072 + 50 * 768);
        assert_eq!(count("tiny"), 4 * (128 * 64 + 64 + 64 * 64 + 64 + 640 + 10));
    }

    #[test]
    fn what_is_neither_preset_nor_file_is_refused() {
        assert!(shapes("huge").unwrap_err().to_string().contains("large, gpt, tiny"));
    }
}
