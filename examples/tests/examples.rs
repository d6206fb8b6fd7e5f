//! Every example runs and does what it says.
#![allow(dead_code)] // the examples' own `main`

#[path = "../custom_transform.rs"]
mod custom_transform;
#[path = "../quickstart.rs"]
mod quickstart;
#[path = "../resume.rs"]
mod resume;
#[path = "../several_groups.rs"]
mod several_groups;

#[test]
fn quickstart_fits_the_line() {
    let (before, after) = quickstart::run().unwrap();
    assert!(before > 3.0 && after < 0.01, "{before} {after}");
}

#[test]
fn the_custom_transform_helps_against_heavy_tails() {
    let (without, with) = custom_transform::run().unwrap();
    assert!(with < 0.9 * without && without < custom_transform::start(), "{without} {with}");
}

#[test]
fn groups_share_the_step_size_as_the_policy_says() {
    let [mean, each, joint] = several_groups::run().unwrap();
    assert!(mean[0].0 != mean[1].0 && mean[0].1 == mean[1].1);
    assert!(each[0].0 != each[1].0 && each[0].1 != each[1].1);
    assert!(joint[0].0 == joint[1].0 && joint[0].1 == joint[1].1);
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit() {
    let (whole, resumed) = resume::run().unwrap();
    assert!(!whole.is_empty());
    assert!(whole.iter().zip(&resumed).all(|(a, b)| a.to_bits() == b.to_bits()));
}
