//! Messages of the compiler at an author's common mistakes.

/// The release of Rust that the messages are of: other releases word them otherwise.
const RELEASE: &str = "1.95";

#[test]
fn the_compiler_says_what_is_wrong_in_common_mistakes() {
    let version = std::process::Command::new("rustc").arg("--version").output().unwrap().stdout;
    if !String::from_utf8_lossy(&version).starts_with(&format!("rustc {RELEASE}.")) {
        eprintln!("skipped: the messages are those of Rust {RELEASE}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
