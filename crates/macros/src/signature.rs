//! Whether a function can be a task, and what its types are. Each misuse is one error, at the place
//! that has to change.

use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, ReturnType, Type};

/// The types of a function that can be a task.
pub(crate) struct Signature {
    /// Whether it wants a context besides its input.
    pub(crate) context: Context,
    /// Its input.
    pub(crate) input: Type,
    /// What it returns: a `Result`, perhaps by another name.
    pub(crate) returned: Type,
}

/// What comes before the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// A context.
    Wanted,
    /// Nothing.
    Unwanted,
}

impl Signature {
    pub(crate) fn of(function: &ItemFn) -> Result<Self, Error> {
        check_kind(function)?;
        let (context, input) = parameters(function)?;
        let returned = returned(function)?;
        Ok(Self { context, input, returned })
    }
}

fn check_kind(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span(), "a task is an `async fn`"));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span(), "a task is safe to call"));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new(abi.span(), "a task has Rust's own ABI"));
    }
    let generics = &signature.generics;
    if !generics.params.is_empty() {
        let sentence = "a task has no generics: its types are known to every node";
        return Err(Error::new(generics.span(), sentence));
    }
    if let Some(clause) = &generics.where_clause {
        return Err(Error::new(clause.span(), "a task has no `where`: its types are fixed"));
    }
    Ok(())
}

fn parameters(function: &ItemFn) -> Result<(Context, Type), Error> {
    let signature = &function.sig;
    let mut types = Vec::new();
    for parameter in &signature.inputs {
        match parameter {
            FnArg::Receiver(receiver) => {
                let sentence = "a task is a free function: it has no `self`";
                return Err(Error::new(receiver.span(), sentence));
            }
            FnArg::Typed(typed) => types.push(&*typed.ty),
        }
    }
    let (context, input) = match types[..] {
        [input] => (Context::Unwanted, input),
        [_, input] => (Context::Wanted, input),
        _ => {
            let sentence = "a task takes its input, or a `TaskContext` and its input; one without \
                            input takes `(): ()`";
            let place = match signature.inputs.iter().nth(2) {
                Some(surplus) => surplus.span(),
                None => signature.paren_token.span.join(),
            };
            return Err(Error::new(place, sentence));
        }
    };
    match input {
        Type::Reference(_) => {
            let sentence = "a task owns its input: it may come from another node";
            Err(Error::new(input.span(), sentence))
        }
        Type::Path(path) if last_word(path).is_some_and(|word| word == "TaskContext") => {
            let sentence = "a task's last parameter is its input; without input it is `(): ()`";
            Err(Error::new(input.span(), sentence))
        }
        _ => Ok((context, input.clone())),
    }
}

fn returned(function: &ItemFn) -> Result<Type, Error> {
    let signature = &function.sig;
    let sentence = "a task returns a `Result`: its error is why its child failed";
    match &signature.output {
        ReturnType::Default => Err(Error::new(signature.ident.span(), sentence)),
        ReturnType::Type(_, returned) => match &**returned {
            Type::Path(path)
                if last_word(path).is_some_and(|word| word.to_string().ends_with("Result")) =>
            {
                Ok((**returned).clone())
            }
            other => Err(Error::new(other.span(), sentence)),
        },
    }
}

fn last_word(path: &syn::TypePath) -> Option<&syn::Ident> {
    path.path.segments.last().map(|segment| &segment.ident)
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;
    use syn::parse_quote;

    use super::*;

    fn text(input: &Type) -> String {
        input.to_token_stream().to_string()
    }

    fn refused(function: &ItemFn) -> String {
        match Signature::of(function) {
            Ok(_) => panic!("it can be a task"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_function_with_or_without_a_context_can_be_a_task() {
        let with = parse_quote! { async fn a(context: TaskContext, n: u64) -> Result<u64, E> {} };
        let with = Signature::of(&with).expect("a task");
        assert_eq!((with.context, text(&with.input)), (Context::Wanted, "u64".to_owned()));
        let without = parse_quote! { async fn a((): ()) -> std::io::Result<u64> {} };
        let without = Signature::of(&without).expect("a task");
        assert_eq!((without.context, text(&without.input)), (Context::Unwanted, "()".to_owned()));
    }

    #[test]
    fn each_misuse_says_what_a_task_is() {
        let check = |function: ItemFn, sentence: &str| {
            let error = refused(&function);
            assert!(error.contains(sentence), "{error}");
        };
        check(parse_quote! { fn a(n: u64) -> Result<u64, E> {} }, "`async fn`");
        check(parse_quote! { async unsafe fn a(n: u64) -> Result<u64, E> {} }, "safe to call");
        check(parse_quote! { async fn a<T>(n: T) -> Result<u64, E> {} }, "no generics");
        check(parse_quote! { async fn a() -> Result<u64, E> {} }, "takes its input");
        check(parse_quote! { async fn a(a: A, b: B, c: C) -> Result<u64, E> {} }, "its input");
        check(parse_quote! { async fn a(&self, b: B) -> Result<u64, E> {} }, "no `self`");
        check(parse_quote! { async fn a(n: &u64) -> Result<u64, E> {} }, "owns its input");
        check(parse_quote! { async fn a(c: TaskContext) -> Result<u64, E> {} }, "`(): ()`");
        check(parse_quote! { async fn a(n: u64) {} }, "returns a `Result`");
        check(parse_quote! { async fn a(n: u64) -> u64 {} }, "returns a `Result`");
    }
}
