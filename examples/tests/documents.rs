//! Numbers and links of READMEs and the book are true, and every transform is in every list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use factored_moment::{DenseMoment, FactoredMoment};
use gradient_transform::{Descent, Link, Optimizer, Parameter};
use prodigy_core::Prodigy;
use prodigy_plus::ProdigyPlus;
use schedule_free::ScheduleFree;
use sha2::{Digest, Sha256};
use stableadamw::StableAdamW;

/// A matrix whose size is a multiple of 11.
const SHAPE: [usize; 2] = [88, 64];
const LEN: u64 = 88 * 64;

/// Bytes that a step moves, sweeps, and bytes kept, after one step.
fn costs(mut optimizer: Optimizer) -> (u64, usize, u64) {
    let mut w = vec![1.0_f32; LEN as usize];
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&vec![0.5; LEN as usize]))]).unwrap();
    let (bytes, sweeps) = optimizer.planned_traffic();
    (bytes, sweeps, optimizer.state_bytes() as u64)
}

fn chain(chain: impl Link<f32> + 'static) -> (u64, usize, u64) {
    costs(Optimizer::new(chain, [("w", &SHAPE[..])]).unwrap())
}

#[test]
fn the_default_chain_takes_three_sweeps_and_28_bytes_besides_the_samples() {
    let samples = 12 * LEN / 11;
    let kept = 4 * LEN + 8 * LEN / 11 + 4 * (88 + 64);
    let built = costs(ProdigyPlus::builder().build([("w", &SHAPE[..])]).unwrap());
    assert_eq!(built, (28 * LEN + samples, 3, kept));
    let by_hand =
        chain((FactoredMoment::new(0.99), StableAdamW, Prodigy::default(), ScheduleFree::default()));
    assert_eq!(by_hand, built);
}

#[test]
fn transforms_cost_what_their_readmes_say() {
    let descent = Descent::default();
    assert_eq!(chain(descent), (12 * LEN, 1, 0));
    assert_eq!(chain((FactoredMoment::new(0.99), descent)), (16 * LEN, 2, 4 * (88 + 64)));
    assert_eq!(chain((DenseMoment::new(0.99), descent)), (20 * LEN, 1, 4 * LEN));
    assert_eq!(chain((DenseMoment::new(0.99), StableAdamW, descent)), (28 * LEN, 2, 4 * LEN));
    assert_eq!(chain((StableAdamW, descent)), (16 * LEN, 2, 0));
    assert_eq!(chain((Prodigy::default(), descent)), (12 * LEN + 12 * LEN / 11, 1, 8 * LEN / 11));
    assert_eq!(chain(ScheduleFree::default()), (20 * LEN, 1, 4 * LEN));
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// A heading as links call it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A page as mdBook renders it: with the files that it includes.
fn page(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix("{{#include ") {
        Some(rest) => {
            let path = rest.split([':', '}']).next().unwrap();
            std::fs::read_to_string(file.parent().unwrap().join(path)).unwrap()
        }
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Fault of a link of `file`, if it has one.
fn broken(file: &Path, target: &str, book: &Path) -> Option<&'static str> {
    let (path, place) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() { file.to_owned() } else { file.parent()?.join(path) };
    let Ok(to) = to.canonicalize() else { return Some("does not exist") };
    if file.starts_with(book) && !to.starts_with(book) {
        return Some("is outside of the rendered book");
    }
    if place.is_empty() || to.extension().is_none_or(|extension| extension != "md") {
        return None;
    }
    let has_place = page(&to).lines().any(|line| line.starts_with('#') && anchor(line) == place);
    (!has_place).then_some("has no such heading")
}

#[test]
fn links_between_files_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap();
    let book = root.join("book/src");
    let mut files = Vec::new();
    for folder in ["crates", "book", "tests", "examples"] {
        documents(&root.join(folder), &mut files);
    }
    files.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)));
    let (mut found, mut wrong) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut is_code = false;
        let prose = text.lines().filter(|line| {
            is_code ^= line.starts_with("```");
            !is_code
        });
        let prose: Vec<&str> = prose.collect();
        let prose = prose.join("\n");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            found += 1;
            if let Some(fault) = broken(&file, target, &book) {
                wrong.push(format!("{}: {target} {fault}", file.display()));
            }
        }
    }
    assert!(found > 100, "only {found} links");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Pages of the book, with their texts.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("book/src");
    let mut files = Vec::new();
    documents(&root, &mut files);
    files.sort();
    let name = |file: &Path| file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn every_page_is_in_the_table_of_contents_and_has_its_rust_compiled() {
    let (summary, list) = (text_of("book/src/SUMMARY.md"), text_of("examples/src/lib.rs"));
    let pages = pages();
    assert!(pages.len() > 60, "only {} pages", pages.len());
    for (name, text) in pages.iter().filter(|(name, _)| name != "SUMMARY.md") {
        assert!(summary.contains(&format!("({name})")), "SUMMARY.md lacks {name}");
        if text.contains("\n```rust") {
            assert!(list.contains(&format!("../../book/src/{name}")), "examples/src/lib.rs lacks {name}");
        }
    }
}

/// On GitHub an include is a line in braces.
#[test]
fn pages_that_readmes_link_to_include_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut readmes = Vec::new();
    documents(&root.join("crates"), &mut readmes);
    documents(&root.join("examples"), &mut readmes);
    readmes.extend(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    let mut found = 0;
    for readme in readmes {
        let text = std::fs::read_to_string(&readme).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if let Some((_, page)) = target.split_once("book/src/").filter(|(_, page)| page.ends_with(".md"))
            {
                found += 1;
                let page = std::fs::read_to_string(root.join("book/src").join(page)).unwrap();
                assert!(!page.contains("{{#include"), "{}: {target} has an include", readme.display());
            }
        }
    }
    assert!(found > 5, "only {found} links");
}

/// Names in brackets without a target, and those that a definition at the end has one for.
fn names_and_definitions(text: &str) -> (BTreeSet<&str>, BTreeMap<&str, &str>) {
    let (mut is_code, mut names, mut definitions) = (false, BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let first = line.strip_prefix("[`").and_then(|rest| rest.split_once("`]"));
        if let Some((name, target)) = first.and_then(|(name, rest)| Some((name, rest.strip_prefix(": ")?))) {
            definitions.insert(name, target);
        } else if !is_code {
            let bracketed = line.split("[`").skip(1).filter_map(|rest| rest.split_once("`]"));
            names.extend(bracketed.filter(|(_, after)| !after.starts_with('(')).map(|(name, _)| name));
        }
    }
    (names, definitions)
}

/// GitHub shows brackets without a definition as they are. In rustdoc, `links.md` leads to the items themselves.
#[test]
fn names_in_brackets_are_links_on_github_and_in_rustdoc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut readmes = Vec::new();
    documents(&root.join("crates"), &mut readmes);
    let mut found = 0;
    for readme in readmes.into_iter().filter(|file| file.ends_with("README.md")) {
        let folder = readme.parent().unwrap();
        let text = std::fs::read_to_string(&readme).unwrap();
        let (names, definitions) = names_and_definitions(&text);
        assert_eq!(names, definitions.keys().copied().collect(), "{}", readme.display());
        for target in definitions.values().filter(|target| !target.contains("://")) {
            assert!(folder.join(target).is_file(), "{}: {target}", readme.display());
        }
        if !names.is_empty() {
            found += names.len();
            let items = std::fs::read_to_string(folder.join("src/links.md")).unwrap();
            assert_eq!(names, names_and_definitions(&items).1.into_keys().collect(), "{}", readme.display());
        }
    }
    assert!(found > 50, "only {found} names");
}

/// A package holds what its folder holds, on systems without symbolic links too.
#[test]
fn every_published_crate_has_the_licences() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut published = 0;
    for kind in std::fs::read_dir(root.join("crates")).unwrap() {
        for folder in std::fs::read_dir(kind.unwrap().path()).unwrap() {
            let folder = folder.unwrap().path();
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            if manifest.contains("publish = false") {
                continue;
            }
            published += 1;
            for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
                let copy = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
                let text = std::fs::read_to_string(root.join(name)).unwrap();
                assert!(copy == text, "cp {name} {}", folder.display());
            }
        }
    }
    assert!(published > 20, "only {published}");
}

/// GitHub and crates.io show the lines that rustdoc hides.
#[test]
fn readmes_have_no_hidden_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut readmes = vec![root.join("README.md")];
    documents(&root.join("crates"), &mut readmes);
    for readme in readmes {
        let text = std::fs::read_to_string(&readme).unwrap();
        for block in text.split("\n```rust").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let hidden = block.lines().find(|line| line.starts_with("# ") || *line == "#");
            assert_eq!(hidden, None, "{}", readme.display());
        }
    }
}

/// Characters that the book's column has room for.
const COLUMN: usize = 120;

#[test]
fn code_in_pages_fits_the_column() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["crates", "book", "examples"] {
        documents(&root.join(folder), &mut files);
    }
    files.extend(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    let mut wide = Vec::new();
    for file in files {
        let mut language = None;
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            if let Some(opened) = line.strip_prefix("```") {
                language = if language.is_none() { Some(opened.to_owned()) } else { None };
            } else if language.as_deref().is_some_and(|language| !["json", "c"].contains(&language))
                && line.chars().count() > COLUMN
                && !line.starts_with("# ")
            {
                wide.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

/// Names of the fields of the structs in a source that study files are read into.
fn keys(path: &str, structs: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let source = std::fs::read_to_string(root.join("crates/ablate/ablate/src").join(path)).unwrap();
    let mut found = Vec::new();
    for name in structs {
        let (_, body) =
            source.split_once(&format!("pub struct {name} {{")).unwrap_or_else(|| panic!("no {name}"));
        let (body, _) = body.split_once("\n}").unwrap();
        let fields = body.lines().filter_map(|line| line.strip_prefix("    pub ")?.split(':').next());
        // As files have it.
        found.extend(fields.map(|field| field.replace("factors", "factor")));
    }
    found
}

#[test]
fn every_key_of_a_study_file_is_in_the_reference() {
    let page = text_of("book/src/reference/study-files.md");
    let mut all = keys("study/file.rs", &["StudyFile", "TaskEntry", "TuningBudget", "Factor"]);
    all.extend(keys("optimizer/change.rs", &["Change", "Insertion"]));
    all.extend(keys("study/fork.rs", &["ForkEntry"]));
    all.extend(keys("command/entry.rs", &["CommandEntry"]));
    assert!(all.len() > 40, "only {all:?}");
    for key in all {
        let forms = [format!("`{key}`"), format!("`[{key}]`"), format!("`[[{key}]]`")];
        assert!(forms.iter().any(|form| page.contains(form)), "reference/study-files.md lacks `{key}`");
    }
}

/// Habits of which `CONTRIBUTING.md` says what to write instead.
const HABITS: [&str; 44] = [
    "one's own",
    " for ever ",
    " for ever.",
    " for ever,",
    "shyer",
    "needless",
    "gets by with",
    "the way come",
    "text-book",
    "learnt",
    "of its like",
    "not its business",
    "In silence",
    "behind the writer",
    "tempers the",
    "begins anew",
    "begin anew",
    "as if it was",
    "stands still",
    "stand still",
    "stood still",
    "run away",
    "runs away",
    "handed on",
    "took the place of",
    "is no part of",
    "are no part of",
    "goes on",
    " go on ",
    "went on ",
    "going on ",
    "once more",
    "is told",
    "are told",
    "type computed in",
    "type that is computed in",
    "cannot be stepped",
    "hands on",
    "takes the place of",
    " anew",
    "sign alone",
    "signs alone",
    "next to no",
    "as good as 0",
];

/// Documentation in a Rust source, line by line.
fn doc_comments(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "))
    })
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn pages_and_doc_comments_are_free_of_the_worst_habits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut files, mut found) = (Vec::new(), Vec::new());
    for folder in ["crates", "book", "examples"] {
        documents(&root.join(folder), &mut files);
    }
    files.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    // Reports are as the program of their time wrote them.
    files.retain(|file| !file.starts_with(root.join("book/src/choose/reports")));
    // Lines end anywhere.
    let mut check = |file: &Path, text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for habit in HABITS.iter().filter(|habit| text.contains(**habit)) {
            found.push(format!("{}: `{habit}`", file.display()));
        }
    };
    for file in &files {
        check(file, &std::fs::read_to_string(file).unwrap());
    }
    let mut rust = Vec::new();
    for crates in std::fs::read_dir(root.join("crates")).unwrap() {
        for of_crate in std::fs::read_dir(crates.unwrap().path()).unwrap() {
            let source = of_crate.unwrap().path().join("src");
            if source.is_dir() {
                sources(&source, &mut rust);
            }
        }
    }
    let mut headless = Vec::new();
    for file in &rust {
        let source = std::fs::read_to_string(file).unwrap();
        check(file, &doc_comments(&source).collect::<Vec<_>>().join(" "));
        // A noun phrase at the head of an item, not a riddle.
        let riddles = doc_comments(&source).filter(|line| line.starts_with("What "));
        headless.extend(riddles.map(|line| format!("{}: {line}", file.display())));
    }
    assert!(files.len() > 80 && rust.len() > 200, "{} {}", files.len(), rust.len());
    assert!(found.is_empty() && headless.is_empty(), "{found:#?} {headless:#?}");
}

/// Digest of all source files of crates below these folders, as `benches/sources.py` takes it.
fn digest_of_sources(folders: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = BTreeMap::new();
    let mut below: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = below.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let within = path.strip_prefix(root).unwrap();
            let is_source = within.iter().any(|part| part == "src")
                && path.extension().is_some_and(|ending| ["rs", "h", "wgsl"].iter().any(|of| ending == *of));
            if path.is_dir() {
                below.push(path);
            } else if is_source {
                files.insert(within.to_str().unwrap().replace('\\', "/"), std::fs::read(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 50, "only {} sources of {folders:?}", files.len());
    let mut total = Sha256::new();
    for (name, content) in files {
        total.update([name.as_bytes(), &content[..]].join(&0));
        total.update([0]);
    }
    total.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Line of a table of numbers whose sources are others by now.
const CHANGED: &str = "* these sources have changed since";

/// Fault of a table of numbers, if it has one.
fn fault_of_numbers(text: &str, digest: impl Fn(&[&str]) -> String) -> Option<String> {
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("* {key}: ")));
    let (Some(date), Some(_), Some(_)) = (of("date"), of("commit"), of("command")) else {
        return Some("lacks its date, commit or command".to_owned());
    };
    let is_date = date.len() >= 10 && date[..4].parse::<u16>().is_ok() && &date[4..5] == "-";
    if !is_date {
        return Some(format!("`{date}` is no date"));
    }
    let Some((known, folders)) = of("sources").and_then(|sources| sources.split_once(" of ")) else {
        return Some("lacks the digest of its sources".to_owned());
    };
    let has_changed = digest(&folders.split(", ").collect::<Vec<_>>()) != known;
    match (has_changed, text.lines().any(|line| line == CHANGED)) {
        (true, false) => Some(format!(
            "is of other sources than {folders} are now. Measure again, or add the line `{CHANGED}` below that of its sources"
        )),
        (false, true) => Some(format!("is of the sources as they are: delete the line `{CHANGED}`")),
        _ => None,
    }
}

/// Lists of a page that begin with a date, each to its end.
fn ages(page: &str) -> Vec<String> {
    let lists = page.split("* date: ").skip(1);
    let to_the_end = |list: &str| {
        let rest = list.lines().skip(1).take_while(|line| line.starts_with("* "));
        std::iter::once(format!("* date: {}", list.lines().next().unwrap_or_default()))
            .chain(rest.map(str::to_owned))
            .collect::<Vec<_>>()
            .join("\n")
    };
    lists.map(to_the_end).collect()
}

/// Pages of measured numbers besides the reports, and how many tables with an age each has.
const MEASURED: [(&str, usize); 3] =
    [("internals/mnist.md", 3), ("internals/performance.md", 1), ("internals/robustness.md", 2)];

#[test]
fn numbers_say_when_and_how_they_were_measured_and_whether_their_sources_have_changed_since() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tables = Vec::new();
    documents(&root.join("benches"), &mut tables);
    let tables = tables
        .iter()
        .map(|file| (file.display().to_string(), std::fs::read_to_string(file).unwrap(), Some(1)));
    let pages = pages().into_iter().map(|(name, text)| {
        let of_page = MEASURED.iter().find(|(page, _)| *page == name).map(|(_, count)| *count);
        let expected = if name.starts_with("choose/reports/") { Some(1) } else { of_page };
        (name, text, expected)
    });
    let (mut required, mut faults) = (0, Vec::new());
    for (name, text, expected) in tables.chain(pages) {
        let ages = ages(&text);
        if let Some(expected) = expected {
            required += 1;
            if ages.len() != expected {
                faults.push(format!("{name} has {} ages of {expected}", ages.len()));
            }
        }
        let of_age = |age: &String| Some(format!("{name} {}", fault_of_numbers(age, digest_of_sources)?));
        faults.extend(ages.iter().filter_map(of_age));
    }
    assert_eq!(faults, [""; 0]);
    assert!(required >= 12, "only {required} files of numbers");
}

/// `2026-11-28` as a sentence has it.
fn in_words(date: &str) -> String {
    let months = "January February March April May June July August September October November December";
    let parts: Vec<usize> = date.split('-').map(|part| part.parse().unwrap()).collect();
    format!("{} {} {}", parts[2], months.split(' ').nth(parts[1] - 1).unwrap(), parts[0])
}

/// Fault of a page that shows a part of a report, if it has one.
fn fault_of_part(page: &str, report: &str, text: &str) -> Option<String> {
    let is_shown = page.contains(&format!("{report}:"));
    let date = text.lines().find_map(|line| line.strip_prefix("* date: ")).unwrap();
    let says_it = page.contains(&format!("{report}:age}}}}")) || page.contains(&in_words(date));
    (is_shown && !says_it).then(|| {
        format!("shows a part of {report}, and neither includes its `age` nor says {}", in_words(date))
    })
}

#[test]
fn pages_that_show_a_part_of_a_report_say_how_old_it_is() {
    let pages = pages();
    let reports =
        || pages.iter().filter_map(|(name, text)| Some((name.strip_prefix("choose/reports/")?, text)));
    let (mut shown, mut faults) = (0, Vec::new());
    for (name, page) in &pages {
        for (report, text) in reports() {
            shown += usize::from(page.contains(&format!("{report}:")));
            faults.extend(fault_of_part(page, report, text).map(|fault| format!("{name} {fault}")));
        }
    }
    assert!(shown > 15, "only {shown} pages show a part of a report");
    assert_eq!(faults, [""; 0]);
    // It would be found.
    let (name, text) = reports().next().unwrap();
    let part = format!("{{{{#include reports/{name}:overview}}}}");
    assert!(fault_of_part(&part, name, text).is_some());
    assert_eq!(fault_of_part(&part.replace(":overview", ":age"), name, text), None);
}

#[test]
fn a_table_of_numbers_that_hides_its_age_is_found() {
    let table = |changed: &str| {
        format!(
            "* date: 2026-11-28\n* commit: 1234567\n* sources: 12ab of a, b\n{changed}* command: measure\n"
        )
    };
    let (silent, open) = (table(""), table("* these sources have changed since\n"));
    let fault = |text: &str, now: &str| {
        fault_of_numbers(text, |folders| {
            assert_eq!(folders, ["a", "b"]);
            now.to_owned()
        })
    };
    assert_eq!((fault(&silent, "12ab"), fault(&open, "cd34")), (None, None));
    assert!(fault(&silent, "cd34").unwrap().contains("Measure again"));
    assert!(fault(&open, "12ab").unwrap().contains("delete the line"));
    for key in ["date", "commit", "sources", "command"] {
        let without = silent.replace(&format!("* {key}: "), "* ");
        assert!(fault(&without, "12ab").unwrap().contains("lacks"), "{key}");
    }
}

/// A document's text, its lines joined.
fn text_of(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join(path)).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_says(path: &str, sentence: &str) {
    assert!(text_of(path).contains(sentence), "{path} does not say: {sentence}");
}

#[test]
fn documents_say_how_long_tiles_are_and_how_many_tasks_there_are() {
    let tile = gradient_transform::TILE;
    assert_says(
        "crates/engine/gradient-transform/README.md",
        &format!("one cache-sized tile of {tile} elements"),
    );
    assert_says("book/src/internals/design.md", &format!("a slice of at most {tile} consecutive elements"));
    assert_says("book/src/internals/determinism.md", &format!("({tile} and 2^19 elements)"));
    assert_says("book/src/internals/performance.md", &format!("stages of a tile of {tile} elements"));
    let numbers = ["six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    let tasks = numbers[ablate_tasks::shipped().len() - 6];
    assert_says("CHANGELOG.md", &format!("ablation studies with {tasks} tasks"));
}

#[test]
fn the_walk_through_says_when_dense_moments_and_focus_keep_what_they_keep() {
    for commits in [
        Link::<f32>::commits_columns(&DenseMoment::new(0.9)),
        Link::<f32>::commits_columns(&focus::Focus::new(0.9)),
    ] {
        assert!(commits);
    }
    let kept = text_of("book/src/internals/walk-through.md")
        .matches("The engine keeps it in the last sweep")
        .count();
    assert_eq!(kept, 2);
}

/// The text of all files of an extension under a folder.
fn texts(folder: &Path, extension: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &texts(&path, extension);
        } else if path.extension().is_some_and(|found| found == extension) {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    text
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

/// The types in a source that can be a member of a chain.
fn transforms(source: &str) -> BTreeSet<String> {
    const TRAITS: [&str; 3] = ["GradientTransform", "Link", "Moment"];
    let lines = source.lines().filter_map(|line| line.strip_prefix("impl")?.split_once(" for "));
    let of_traits = lines.filter(|(traits, _)| words(traits).iter().any(|word| TRAITS.contains(word)));
    let name = |of: &str| of.chars().take_while(|c| c.is_alphanumeric()).collect();
    of_traits.map(|(_, of)| name(of)).collect()
}

/// In no list, and why.
const NOT_LISTED: [(&str, &str); 2] = [
    ("Auxiliary", "a chain beside Muon, not a transform of its own"),
    ("Graft", "of two transforms by their types, which a study's file cannot name; it has rows"),
];

/// A transform is registered by its folder: whatever else has to know of it is named here if it doesn't.
#[test]
fn every_transform_has_laws_a_table_a_page_and_a_name_in_studies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let studies = texts(&root.join("crates/ablate/ablate-transforms/src"), "rs");
    let (summary, readme) = (read("book/src/SUMMARY.md"), read("README.md"));
    let (mut found, mut missing) = (0, Vec::new());
    for entry in std::fs::read_dir(root.join("crates/transforms")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut require = |holds: bool, what: String| {
            if !holds {
                missing.push(format!("{name}: {what}"));
            }
        };
        let laws = std::fs::read_to_string(folder.join("tests/laws.rs")).unwrap_or_default();
        let (rows, tables) = laws.split_once("transform_laws::snapshots! {").unwrap_or((&laws, ""));
        let rows: String =
            rows.split_inclusive(';').filter(|rows| !rows.trim_start().starts_with("use ")).collect();
        require(
            rows.contains("transform_laws::laws! {"),
            "tests/laws.rs has no `transform_laws::laws!`".to_owned(),
        );
        require(!tables.is_empty(), "tests/laws.rs has no `transform_laws::snapshots!`".to_owned());
        for transform in transforms(&texts(&folder.join("src"), "rs")) {
            found += 1;
            if NOT_LISTED.iter().any(|(not_listed, _)| *not_listed == transform) {
                continue;
            }
            let has_row = words(&rows).contains(transform.as_str());
            require(has_row, format!("tests/laws.rs has no row of {transform}"));
            require(
                words(&studies).contains(transform.as_str()),
                format!(
                    "crates/ablate/ablate-transforms/src/list.rs lacks {transform}: a line with its name and what it does"
                ),
            );
        }
        let page = format!("transforms/{name}.md");
        let includes = format!("{{{{#include ../../../crates/transforms/{name}/README.md}}}}");
        let text = std::fs::read_to_string(root.join("book/src").join(&page)).unwrap_or_default();
        require(text.contains(&includes), format!("book/src/{page} lacks {includes}"));
        require(summary.contains(&format!("({page})")), format!("book/src/SUMMARY.md lacks ({page})"));
        let row = format!("](crates/transforms/{name}/README.md)");
        require(readme.contains(&row), format!("README.md lacks {row}"));
    }
    assert!(found > 40, "only {found} transforms were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_readme_says_how_many_elementary_transforms_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let count = transforms(&texts(&root.join("crates/transforms/elementary/src"), "rs")).len();
    assert_says("README.md", &format!("schedules: {count} transforms"));
}
