//! What stands in the attribute: `#[sortie::task(name = "other")]`.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::{Error, LitStr};

/// The choices of one attribute.
#[derive(Default)]
pub(crate) struct Arguments {
    /// The name under which the task is registered; the function's own if none.
    pub(crate) name: Option<LitStr>,
}

impl Arguments {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let mut arguments = Self::default();
        let parser = syn::meta::parser(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("a task's attribute knows `name = \"…\"` only"));
            }
            if arguments.name.is_some() {
                return Err(meta.error("a task has one name"));
            }
            let name: LitStr = meta.value()?.parse()?;
            if name.value().is_empty() {
                return Err(Error::new(name.span(), "a task's name is not empty"));
            }
            arguments.name = Some(name);
            Ok(())
        });
        parser.parse2(tokens)?;
        Ok(arguments)
    }
}
