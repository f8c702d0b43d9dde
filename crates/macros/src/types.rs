//! A number for the types of a task, the same wherever the same is written.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{GenericArgument, PathArguments, Type};

/// The hash of the input's and the output's tokens, as they stand in the source, without spaces.
/// The output is the first argument of the `Result`; of an alias without arguments, its name.
pub(crate) fn hash_of(input: &Type, returned: &Type) -> u64 {
    let mut hash = Fnv::default();
    hash.tokens(input.to_token_stream());
    hash.word("->");
    match output_of(returned) {
        Some(output) => hash.tokens(output.to_token_stream()),
        None => hash.tokens(returned.to_token_stream()),
    }
    hash.0
}

fn output_of(returned: &Type) -> Option<&Type> {
    let Type::Path(path) = returned else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(output) => Some(output),
        _ => None,
    })
}

/// FNV-1a, 64 bits. The hash is no secret and tells mistakes apart, not attacks.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// A word and its end.
    fn word(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        // It is not written: a macro put the type in.
                        Delimiter::None => ("", ""),
                    };
                    self.delimiter(open);
                    self.tokens(group.stream());
                    self.delimiter(close);
                }
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Punct(punct) => self.word(punct.as_char().encode_utf8(&mut [0; 4])),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
            }
        }
    }

    fn delimiter(&mut self, text: &str) {
        if !text.is_empty() {
            self.word(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn the_same_types_have_the_same_hash_whatever_their_error() {
        let check = |one: (Type, Type), other: (Type, Type), same: bool| {
            let hashes = (hash_of(&one.0, &one.1), hash_of(&other.0, &other.1));
            assert_eq!(hashes.0 == hashes.1, same, "{hashes:?}");
        };
        let one = || (parse_quote! { Vec<(u8, String)> }, parse_quote! { Result<u64, A> });
        check(one(), (parse_quote! { Vec<(u8,String)> }, parse_quote! { io::Result<u64> }), true);
        check(one(), (parse_quote! { Vec<(u8, Text)> }, parse_quote! { Result<u64, A> }), false);
        check(one(), (parse_quote! { Vec<(u8, String)> }, parse_quote! { Result<u32, A> }), false);
    }

    #[test]
    fn a_hash_never_changes() {
        let hash = hash_of(&parse_quote! { u64 }, &parse_quote! { Result<String, Error> });
        assert_eq!(hash, 0xf478_d133_9907_8c26);
    }
}
