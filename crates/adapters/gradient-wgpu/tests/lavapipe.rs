//! Chains.
use conformance::device::{Types, compare, rows};
use gradient_wgpu::Wgpu;
const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];
#[test]
fn explore() {
    for types in [Types::F32, Types::Bf16] {
        let mut well = 0;
        let mut wgpu = Wgpu::new().unwrap();
        for row in rows() {
            match compare(&row, types, &SHAPES, 5, wgpu) {
                Ok(back) => { well += 1; wgpu = back; }
                Err(e) => { eprintln!("{e}"); wgpu = Wgpu::new().unwrap(); }
            }
        }
        eprintln!("{types:?} {well}");
    }
}
