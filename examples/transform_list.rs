//! The book's list of transforms, from the registration that studies have of them.
//!
//! `cargo run -p examples --example transform_list > book/src/transforms/list.md`

use ablate::registry::{Registry, written_options};

/// The page.
pub(crate) fn page() -> String {
    let mut page = "# Transforms by name\n\n\
        As studies name them, with their options and defaults; one without a value has none until it is given one. In Rust the options are the fields of a structure, whose documentation says\n\
        what each means. (`cargo run -p examples --example transform_list > book/src/transforms/list.md`)\n\n\
        | Transform | What it does | Options |\n| --- | --- | --- |\n"
        .to_owned();
    for kind in Registry::shipped().transforms() {
        let options = written_options(&kind.defaults).into_iter().map(|option| format!("`{option}`"));
        let options: Vec<String> = options.collect();
        page += &format!("| `{}` | {} | {} |\n", kind.name, kind.summary, options.join(", "));
    }
    page
}

#[allow(clippy::print_stdout)] // what it is for
fn main() {
    sigpipe::reset(); // A reader such as `head` may end first.
    print!("{}", page());
}
