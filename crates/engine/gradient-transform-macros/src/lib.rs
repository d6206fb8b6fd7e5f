#![doc = include_str!("../README.md")]

mod mistakes;

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::{Fields, ImplItem, ItemImpl, ItemStruct, LitStr, parse_macro_input, parse_quote};

/// Completes an implementation of `GradientTransform`, `Moment` or `Writer`: name, associated types, inlining.
#[proc_macro_attribute]
pub fn transform(name: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = parse_macro_input!(item as ItemImpl);
    let name = if name.is_empty() { None } else { Some(parse_macro_input!(name as LitStr)) };
    let Some(path) = item.trait_.as_ref().map(|(_, path, _)| path.clone()) else {
        let error = syn::Error::new_spanned(
            &item.self_ty,
            "`#[transform]` belongs above `impl GradientTransform for ..`",
        );
        return error.into_compile_error().into();
    };
    let of = |name: &str| path.segments.last().is_some_and(|segment| segment.ident == name);
    let declares = of("GradientTransform") || of("Moment");
    if let Some(mistake) = mistakes::first(&item, of("GradientTransform"), declares) {
        return mistake.into_compile_error().into();
    }
    for function in item.items.iter_mut().filter_map(|item| match item {
        ImplItem::Fn(function) if !function.sig.generics.params.is_empty() => Some(function),
        _ => None,
    }) {
        function.attrs.push(parse_quote!(#[inline(always)]));
    }
    if declares {
        let given: Vec<String> = item
            .items
            .iter()
            .filter_map(|item| match item {
                ImplItem::Type(given) => Some(given.ident.to_string()),
                _ => None,
            })
            .collect();
        for kind in ["State", "Scalars", "Along"]
            .into_iter()
            .chain(of("GradientTransform").then_some("Sums"))
            .filter(|kind| !given.iter().any(|given| given == kind))
        {
            let kind = format_ident!("{kind}");
            item.items.push(parse_quote!(type #kind<V: Copy> = ::gradient_transform::Nothing<V>;));
        }
        if of("GradientTransform") && !given.iter().any(|given| given == "Kind") {
            item.items.push(parse_quote!(
                type Kind = ::gradient_transform::kind::Update;
            ));
        }
        if let Some(name) = name {
            item.items.push(parse_quote!(fn name(&self) -> &str { #name }));
        }
    }
    item.items.push(parse_quote!(
        const HAS_THE_ATTRIBUTE_TRANSFORM: () = ();
    ));
    if of("GradientTransform") {
        item.items.extend(loops("run", ["on_f32", "on_f64"]));
        item.items.extend(traces());
    } else if of("Writer") {
        item.items.extend(loops("run_writer", ["write_f32", "write_f64"]));
    }
    let plain = of("Moment").then(|| plain_moment(&item));
    quote!(#item #plain).into()
}

/// Functions without type parameters, in which loops are compiled.
fn loops(run: &str, names: [&str; 2]) -> [ImplItem; 2] {
    let run = format_ident!("{run}");
    [(names[0], "f32"), (names[1], "f64")].map(|(name, number)| {
        let (name, number) = (format_ident!("{name}"), format_ident!("{number}"));
        parse_quote! {
            fn #name(pass: ::gradient_transform::__private::Pass<'_, '_, #number, Self>) {
                ::gradient_transform::__private::#run(pass);
            }
        }
    })
}

/// Functions without type parameters, in which the functions of an element are traced.
fn traces() -> [ImplItem; 3] {
    let kind: syn::Type = parse_quote!(<Self as ::gradient_transform::GradientTransform>::Kind);
    [
        parse_quote! {
            fn traced(&self) -> ::gradient_transform::__private::Traced {
                ::gradient_transform::__private::trace(self)
            }
        },
        parse_quote! {
            fn traced_equations(
                &self,
                tensor: &::gradient_transform::TensorInfo,
            ) -> ::gradient_transform::__private::Equations {
                <#kind as ::gradient_transform::__private::Kind<Self>>::equations(self, tensor)
            }
        },
        parse_quote! {
            fn traced_formula(
                &self,
                tensor: &::gradient_transform::TensorInfo,
                work: ::gradient_transform::__private::ElementWork,
                element: &mut ::gradient_transform::__private::FormulaElement<'_>,
            ) -> bool {
                <#kind as ::gradient_transform::__private::Kind<Self>>::formula(self, tensor, work, element)
            }
        },
    ]
}

/// A moment as a transform: it accumulates, and divides.
fn plain_moment(item: &ItemImpl) -> proc_macro2::TokenStream {
    let (of, (generics, _, bounds)) = (&item.self_ty, item.generics.split_for_impl());
    let (loops, traces) = (loops("run", ["on_f32", "on_f64"]), traces());
    quote! {
        impl #generics ::gradient_transform::GradientTransform for #of #bounds {
            type State<V: Copy> = <Self as ::gradient_transform::Moment>::State<V>;
            type Scalars<V: Copy> = <Self as ::gradient_transform::Moment>::Scalars<V>;
            type Along<V: Copy> = <Self as ::gradient_transform::Moment>::Along<V>;
            type Sums<V: Copy> = ::gradient_transform::Nothing<V>;
            type Kind = ::gradient_transform::kind::Update;
            const HAS_THE_ATTRIBUTE_TRANSFORM: () = ();

            #(#loops)*
            #(#traces)*

            fn name(&self) -> &str {
                ::gradient_transform::Moment::name(self)
            }

            fn validate(&self) -> ::gradient_transform::Result<()> {
                ::gradient_transform::Moment::validate(self)
            }

            fn excludes(&self) -> &[(&'static str, &'static str)] {
                ::gradient_transform::Moment::excludes(self)
            }

            fn columns(&self, tensor: &::gradient_transform::TensorInfo) -> Self::State<::gradient_transform::Column> {
                ::gradient_transform::Moment::columns(self, tensor)
            }

            fn along(&self, tensor: &::gradient_transform::TensorInfo) -> Option<Self::Along<usize>> {
                ::gradient_transform::Moment::along(self, tensor)
            }

            fn vectors(
                &self,
                tensor: &::gradient_transform::TensorInfo,
            ) -> Vec<(&'static str, usize, ::gradient_transform::Storage)> {
                ::gradient_transform::Moment::vectors(self, tensor)
            }

            fn begin(&self, cx: &::gradient_transform::Context<'_>, scalars: &mut Self::Scalars<f64>) {
                ::gradient_transform::Moment::begin(self, cx, scalars);
            }

            #[inline(always)]
            fn measure_along<B: ::gradient_transform::Backend>(
                &self,
                e: &::gradient_transform::Element<B, Self>,
            ) -> Self::Along<::gradient_transform::Num<B>> {
                ::gradient_transform::Moment::measure_along(self, e)
            }

            fn finalize_along<T: ::gradient_transform::Real>(
                &self,
                cx: &::gradient_transform::Context<'_>,
                mut along: ::gradient_transform::AlongState<'_, T>,
                scalars: &mut Self::Scalars<f64>,
            ) {
                ::gradient_transform::Moment::advance(self, cx, along.reborrow());
                ::gradient_transform::Moment::prepare(self, cx, along, scalars);
            }

            fn variant(&self, cx: &::gradient_transform::Context<'_>, scalars: &Self::Scalars<f64>) -> u32 {
                ::gradient_transform::Moment::variant(self, cx, scalars)
            }

            fn variants(&self) -> u32 {
                ::gradient_transform::Moment::variants(self)
            }

            #[inline(always)]
            fn update<B: ::gradient_transform::Backend>(&self, e: &mut ::gradient_transform::Element<B, Self>) {
                ::gradient_transform::Moment::accumulate(self, e);
                ::gradient_transform::Moment::divide(self, e);
            }
        }
    }
}

/// Fields of `struct Name<V> { a: V, b: V }` by name: for `State`, `Scalars`, `Sums` and `Along`.
#[proc_macro_attribute]
pub fn fields(_: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemStruct);
    let wrong =
        |message: &str| TokenStream::from(syn::Error::new_spanned(&item, message).into_compile_error());
    let mut parameters = item.generics.params.iter();
    let (Fields::Named(fields), Some(syn::GenericParam::Type(value)), None) =
        (&item.fields, parameters.next(), parameters.next())
    else {
        return wrong("`#[fields]` takes a struct of the form `struct Name<V> { a: V, b: V }`");
    };
    let value = &value.ident;
    let name = &item.ident;
    let names: Vec<_> = fields.named.iter().filter_map(|field| field.ident.as_ref()).collect();
    let strings: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    let numbers: Vec<_> = (0..names.len()).collect();
    quote! {
        #[derive(Clone, Copy, Debug, PartialEq)]
        #item

        impl<#value: Copy> ::gradient_transform::Fields<#value> for #name<#value> {
            const NAMES: &'static [&'static str] = &[#(#strings),*];

            #[inline(always)]
            fn from_fn(mut value: impl FnMut(usize) -> #value) -> Self {
                Self { #(#names: value(#numbers)),* }
            }

            #[inline(always)]
            fn get(&self, index: usize) -> #value {
                match index {
                    #(#numbers => self.#names,)*
                    _ => panic!("no field has this number"),
                }
            }

            #[inline(always)]
            fn iter(&self) -> impl Iterator<Item = &#value>
            where
                #value: 'static,
            {
                [#(&self.#names),*].into_iter()
            }

            #[inline(always)]
            fn iter_mut(&mut self) -> impl Iterator<Item = &mut #value>
            where
                #value: 'static,
            {
                [#(&mut self.#names),*].into_iter()
            }
        }
    }
    .into()
}
