use std::thread;

/// Advice after the message about a table that differs from its file, or has none.
#[derive(Debug)]
pub struct Advice;

impl Drop for Advice {
    #[allow(clippy::print_stdout)] // where insta prints, so that it belongs to the test
    fn drop(&mut self) {
        if thread::panicking() {
            println!(
                "The table is new or has changed. Read it; `INSTA_UPDATE=always cargo test` writes it to `snapshots/`, and the next run removes its `.snap.new` file."
            );
        }
    }
}
