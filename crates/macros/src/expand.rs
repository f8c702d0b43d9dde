//! What the attribute turns a function into.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::{Attribute, Error, ItemFn, LitStr, Visibility};

use crate::arguments::Arguments;
use crate::signature::{Context, Signature};
use crate::types;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    let arguments = Arguments::parse(arguments)?;
    let function: ItemFn = syn::parse2(item.clone()).map_err(|_| {
        Error::new_spanned(&item, "`#[sortie::task]` belongs on an `async fn` with a body")
    })?;
    let signature = Signature::of(&function)?;
    Ok(task(&arguments, function, &signature))
}

/// A unit type of the function's name, which is the task, and the function itself, which only the
/// type's implementations see. A call of the value goes to the function by way of `Deref`: a
/// callee is dereferenced until it can be called.
fn task(arguments: &Arguments, mut function: ItemFn, signature: &Signature) -> TokenStream {
    let visibility = std::mem::replace(&mut function.vis, Visibility::Inherited);
    let ident = function.sig.ident.clone();
    let own_name = ident.to_string();
    let own_name = LitStr::new(own_name.trim_start_matches("r#"), ident.span());
    let name = arguments.name.as_ref().unwrap_or(&own_name);
    let (on_type, on_function) = divide(std::mem::take(&mut function.attrs));
    let configured: Vec<&Attribute> =
        on_type.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect();
    function.attrs = on_function;
    let Signature { context, input, returned } = signature;
    let types = types::hash_of(input, returned);
    // Of this macro's own scope, so that no function hides behind its parameters.
    let (given, unused) = (mixed("context"), mixed("_context"));
    let taken = mixed("input");
    let (context, called, parameters, binding) = match context {
        Context::Wanted => (
            &given,
            quote! { #ident(#given, #taken) },
            quote! { ::sortie::TaskContext, #input },
            quote! { |#given, #taken| },
        ),
        Context::Unwanted => {
            (&unused, quote! { #ident(#taken) }, quote! { #input }, quote! { |#taken| })
        }
    };
    // The type bears the function's name, whatever its case.
    let lenient = Ident::new("allow", Span::call_site());
    quote! {
        #(#on_type)*
        #[#lenient(non_camel_case_types)]
        #[derive(Clone, Copy, Debug)]
        #visibility struct #ident;

        #(#configured)*
        const _: () = {
            #function

            impl ::sortie::TaskFn for #ident {
                type Input = #input;
                type Output = <#returned as ::sortie::TaskReturn>::Output;
                type Error = <#returned as ::sortie::TaskReturn>::Error;

                const NAME: &'static str = #name;
                const TYPES: ::sortie::TaskTypes = ::sortie::TaskTypes(#types);

                fn call(
                    self,
                    #context: ::sortie::TaskContext,
                    #taken: #input,
                ) -> ::sortie::TaskFuture<#returned> {
                    ::std::boxed::Box::pin(#called)
                }
            }

            impl ::std::ops::Deref for #ident {
                type Target = fn(#parameters) -> ::sortie::TaskFuture<#returned>;

                fn deref(&self) -> &Self::Target {
                    const FUNCTION: fn(#parameters) -> ::sortie::TaskFuture<#returned> =
                        #binding ::std::boxed::Box::pin(#called);
                    &FUNCTION
                }
            }
        };
    }
}

fn mixed(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// The attributes that say what the task is and when it is there, and those about its code.
fn divide(attributes: Vec<Attribute>) -> (Vec<Attribute>, Vec<Attribute>) {
    let of_type = |attribute: &Attribute| {
        ["doc", "cfg", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
    };
    attributes.into_iter().partition(of_type)
}
