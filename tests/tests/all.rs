//! All tests of this crate but `cost`, in one binary. `cargo test -p conformance extremes` runs those of one file.

mod case_reader;
mod chain_laws;
mod concurrency;
mod conformance;
mod determinism;
mod device;
mod engine_compat;
mod engine_equals_oracle;
mod errors;
mod evaluation;
mod extremes;
mod groups;
mod literature;
mod options;
mod oracle;
mod random_calls;
mod random_runs;
mod recorder;
mod resume;
mod resume_changed;
mod second_line;
mod shared_sums;
mod snapshots;

#[test]
fn every_file_beside_this_one_is_compiled() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| !["all", "cost"].contains(module)) {
            assert!(include_str!("all.rs").contains(&format!("\nmod {module};\n")), "all.rs lacks {name}");
        }
    }
}
