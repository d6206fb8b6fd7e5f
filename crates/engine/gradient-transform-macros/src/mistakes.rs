//! Mistakes for which the compiler has no clear message.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Pat, Type};

/// The first mistake in an implementation: of the trait `GradientTransform`, or of one whose associated types need not be given.
pub(crate) fn first(item: &ItemImpl, of_transform: bool, declares: bool) -> Option<Error> {
    not_generic(item)
        .or_else(|| undeclared(item, of_transform, declares))
        .or_else(|| unused(item, of_transform))
}

fn functions(item: &ItemImpl) -> impl Iterator<Item = &ImplItemFn> {
    item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(function) => Some(function),
        _ => None,
    })
}

fn function<'i>(item: &'i ItemImpl, name: &str) -> Option<&'i ImplItemFn> {
    functions(item).find(|function| function.sig.ident == name)
}

fn declared<'i>(item: &'i ItemImpl, name: &str) -> Option<&'i Ident> {
    item.items.iter().find_map(|item| match item {
        ImplItem::Type(given) if given.ident == name => Some(&given.ident),
        _ => None,
    })
}

/// The functions of an element.
fn of_an_element(item: &ItemImpl) -> impl Iterator<Item = &ImplItemFn> {
    const NAMES: [&str; 7] =
        ["update", "measure", "measure_along", "accumulate", "divide", "displace", "write"];
    functions(item).filter(|function| NAMES.iter().any(|name| function.sig.ident == name))
}

/// A function of an element that works for one kind of numbers.
fn not_generic(item: &ItemImpl) -> Option<Error> {
    let name = &of_an_element(item).find(|function| function.sig.generics.params.is_empty())?.sig.ident;
    let message =
        format!("a function of an element is generic over its numbers: write `fn {name}<B: Backend>(..)`");
    Some(Error::new_spanned(name, message))
}

/// Values that are used and whose type is not given.
fn undeclared(item: &ItemImpl, of_transform: bool, declares: bool) -> Option<Error> {
    if !declares {
        return None;
    }
    let add = |kind: &str| format!("add `type {kind}<V: Copy> = Name<V>;` with your struct of `#[fields]`");
    if let (true, None) = (of_transform, declared(item, "Sums")) {
        if let Some(measure) = function(item, "measure") {
            let message = format!("the sums that `measure` adds to are not declared: {}", add("Sums"));
            return Some(Error::new_spanned(&measure.sig.ident, message));
        }
        if let Some(finalize) = function(item, "finalize") {
            let message = format!(
                "the sums that `finalize` gets are not declared: {}, and `measure`, which returns their terms",
                add("Sums")
            );
            return Some(Error::new_spanned(&finalize.sig.ident, message));
        }
    }
    for (kind, field, what) in [
        ("State", "state", "this state is not declared"),
        ("Scalars", "scalars", "these numbers are not declared"),
        ("Along", "along", "these arrays along axes are not declared"),
    ] {
        let used = || of_an_element(item).find_map(|function| field_of_element(function, field));
        if let (None, Some(used)) = (declared(item, kind), used()) {
            return Some(Error::new(used.span(), format!("{what}: {}", add(kind))));
        }
    }
    if declared(item, "Scalars").is_none() {
        let of_host = ["begin", "finalize", "finalize_along", "prepare"].into_iter();
        let given = of_host.filter_map(|name| function(item, name)).find_map(|function| {
            let FnArg::Typed(scalars) = function.sig.inputs.last()? else { return None };
            let Type::Reference(reference) = &*scalars.ty else { return None };
            let Type::Path(path) = &*reference.elem else { return None };
            let name = &path.path.segments.last()?.ident;
            (name != "Nothing" && name != "Scalars").then_some(path)
        });
        if let Some(given) = given {
            let message = format!("these numbers are not declared: {}", add("Scalars"));
            return Some(Error::new_spanned(given, message));
        }
    }
    None
}

/// A field of the element's `name`: the `trace` of `e.state.trace`.
fn field_of_element(function: &ImplItemFn, name: &str) -> Option<Ident> {
    let FnArg::Typed(element) = function.sig.inputs.get(1)? else { return None };
    let Pat::Ident(element) = &*element.pat else { return None };
    field_of(function.block.to_token_stream(), &element.ident, name)
}

/// A field of `of.name`, where it is not a method.
fn field_of(tokens: TokenStream, of: &Ident, name: &str) -> Option<Ident> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is =
        |at: usize, ident: &str| matches!(tokens.get(at), Some(TokenTree::Ident(found)) if found == ident);
    let of_text = of.to_string();
    let is_dot = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(dot)) if dot.as_char() == '.');
    (0..tokens.len()).find_map(|at| match &tokens[at] {
        TokenTree::Group(group) => field_of(group.stream(), of, name),
        TokenTree::Ident(_)
            if at > 1 && is(at, name) && is(at - 2, &of_text) && is_dot(at - 1) && is_dot(at + 1) =>
        {
            let is_called = match tokens.get(at + 3) {
                Some(TokenTree::Group(group)) => group.delimiter() == proc_macro2::Delimiter::Parenthesis,
                Some(TokenTree::Punct(colon)) => colon.as_char() == ':',
                _ => false,
            };
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(field)) if !is_called => Some(field.clone()),
                _ => None,
            }
        }
        _ => None,
    })
}

/// Sums without terms, or without a use.
fn unused(item: &ItemImpl, of_transform: bool) -> Option<Error> {
    let sums = declared(item, "Sums").filter(|_| of_transform)?;
    let message = if function(item, "measure").is_none() {
        "these sums have no terms: add `measure`, which returns the terms of an element"
    } else if function(item, "finalize").is_none() {
        "these sums are not used: add `finalize`, which turns them into numbers for the elements"
    } else {
        return None;
    };
    Some(Error::new_spanned(sums, message))
}
