//! Every public item is shown at work: its name occurs in a runnable example of its crate, in the documentation of an item or in the
//! README.

use std::collections::BTreeSet;
use std::path::Path;

use syn::{ImplItem, Item, TraitItem, Type, UseTree, Visibility};

/// A source file or an inline module, by its path within the crate.
struct Module {
    path: Vec<String>,
    items: Vec<Item>,
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// All modules of a crate, and the code of all examples.
fn read(folder: &Path, path: &[String], modules: &mut Vec<Module>, examples: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let mut inner = path.to_vec();
        if !["lib", "mod"].contains(&stem.as_str()) {
            inner.push(stem);
        }
        if file.is_dir() {
            read(&file, &inner, modules, examples);
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            let comments = text.lines().map(str::trim_start).filter_map(|line| {
                line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(|line| line.trim_start())
            });
            collect_examples(comments, examples);
            // An example in a file of its own.
            let included = text.lines().filter_map(|line| {
                line.trim_start().strip_prefix("#[doc = include_str!(\"")?.strip_suffix("\")]")
            });
            for included in included.filter(|included| included.ends_with(".rs")) {
                examples.push_str(&std::fs::read_to_string(folder.join(included)).unwrap());
            }
            modules.push(Module { path: inner, items: syn::parse_file(&text).unwrap().items });
        }
    }
}

fn collect_examples<'t>(lines: impl Iterator<Item = &'t str>, examples: &mut String) {
    let mut is_code = None;
    for line in lines {
        match (line.strip_prefix("```"), is_code) {
            (Some(language), None) => is_code = Some(matches!(language, "" | "rust")),
            (Some(_), Some(_)) => is_code = None,
            (None, Some(true)) => {
                examples.push_str(line);
                examples.push('\n');
            }
            _ => {}
        }
    }
}

/// Whether an item is left out of the documentation: what an attribute's expansion refers to.
fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    let hides =
        |attribute: &syn::Attribute| attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "hidden");
    attributes.iter().any(|attribute| attribute.path().is_ident("doc") && hides(attribute))
}

/// Items of a public `use`, as (module, item).
fn used(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(inner) => {
            if inner.ident != "crate" {
                path.push(inner.ident.to_string());
            }
            used(&inner.tree, path, found);
            path.truncate(path.len() - usize::from(inner.ident != "crate"));
        }
        UseTree::Name(name) => found.push((path.clone(), name.ident.to_string())),
        UseTree::Rename(rename) => found.push((path.clone(), rename.ident.to_string())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| used(tree, path, found)),
        UseTree::Glob(_) => {}
    }
}

/// The name of an item that has one and can be public, and whether it is.
fn named(item: &Item) -> Option<(String, bool)> {
    let (name, visibility) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((name.to_string(), is_public(visibility)))
}

/// Adds the public items that can be reached from a module.
fn reach(modules: &[Module], path: &[String], found: &mut BTreeSet<(Vec<String>, String)>) {
    let Some(module) = modules.iter().find(|module| module.path == path) else { return };
    for item in &module.items {
        match item {
            Item::Mod(inner) if is_public(&inner.vis) => {
                let path = [path, &[inner.ident.to_string()]].concat();
                reach(modules, &path, found);
                let inline = inner.content.iter().flat_map(|(_, items)| items).filter_map(named);
                found.extend(inline.filter(|(_, public)| *public).map(|(name, _)| (path.clone(), name)));
            }
            Item::Use(item) if is_public(&item.vis) => {
                let mut names = Vec::new();
                used(&item.tree, &mut Vec::new(), &mut names);
                for (inner, name) in names {
                    let relative = [path, &inner].concat();
                    let place =
                        if modules.iter().any(|module| module.path == relative) { relative } else { inner };
                    found.insert((place, name));
                }
            }
            _ => {
                found.extend(named(item).filter(|(_, public)| *public).map(|(name, _)| (path.to_vec(), name)))
            }
        }
    }
}

/// The public methods of the public types and traits.
fn methods(modules: &[Module], public: &BTreeSet<(Vec<String>, String)>) -> BTreeSet<String> {
    let is_public_name = |name: &str| public.iter().any(|(_, public)| public == name);
    let mut found = BTreeSet::new();
    for item in modules.iter().flat_map(|module| &module.items) {
        match item {
            Item::Impl(item) if item.trait_.is_none() => {
                let Type::Path(of) = &*item.self_ty else { continue };
                let name = of.path.segments.last().unwrap().ident.to_string();
                let public = item.items.iter().filter_map(|item| match item {
                    ImplItem::Fn(method) if is_public(&method.vis) => {
                        Some(format!("{name}::{}", method.sig.ident))
                    }
                    _ => None,
                });
                found.extend(public.filter(|_| is_public_name(&name)));
            }
            Item::Trait(item) if is_public(&item.vis) && is_public_name(&item.ident.to_string()) => {
                found.extend(item.items.iter().filter_map(|inner| match inner {
                    TraitItem::Fn(method) if !is_hidden(&method.attrs) => {
                        Some(format!("{}::{}", item.ident, method.sig.ident))
                    }
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    found
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').collect()
}

#[test]
fn every_public_item_occurs_in_a_runnable_example() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let (mut missing, mut seen) = (Vec::new(), 0);
    let groups = std::fs::read_dir(&crates).unwrap().map(|group| group.unwrap().path());
    for entry in groups.flat_map(|group| std::fs::read_dir(group).unwrap()) {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        // A program, whose parts are for itself.
        if name == "step-bench" {
            continue;
        }
        let (mut modules, mut examples) = (Vec::new(), String::new());
        read(&folder.join("src"), &[], &mut modules, &mut examples);
        collect_examples(std::fs::read_to_string(folder.join("README.md")).unwrap().lines(), &mut examples);
        let mut public = BTreeSet::new();
        reach(&modules, &[], &mut public);
        let all: BTreeSet<String> =
            public.iter().map(|(_, name)| name.clone()).chain(methods(&modules, &public)).collect();
        seen += all.len();
        let shown = words(&examples);
        let is_shown = |item: &str| shown.contains(item.rsplit("::").next().unwrap());
        missing.extend(all.iter().filter(|item| !is_shown(item)).map(|item| format!("{name}: {item}")));
    }
    assert!(seen > 400, "only {seen} items were found");
    assert!(missing.is_empty(), "not in any example: {missing:#?}");
}
