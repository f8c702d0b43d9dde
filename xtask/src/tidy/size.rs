//! Files, functions, parameter lists and lines that a reader can hold in the head.

use std::ops::Range;

use super::scan::{self, Token};
use super::{Finding, Source, Tree};

const FILE: &str = "file-length";
const FUNCTION: &str = "function-length";
const PARAMETERS: &str = "parameters";
const COLUMNS: &str = "columns";

/// Lines of a file without its tests.
const FILE_LINES: usize = 400;
/// Lines of a file with its tests.
const FILE_LINES_WITH_TESTS: usize = 600;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
/// Parameters of a function besides `self`.
const FUNCTION_PARAMETERS: usize = 4;
/// Characters of a line.
pub(crate) const LINE_COLUMNS: usize = 100;

/// What is too long.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .flat_map(|source| {
            let functions = check_functions(source);
            check_file(source).into_iter().chain(functions).chain(check_columns(source))
        })
        .collect()
}

fn check_file(source: &Source) -> Option<Finding> {
    let all = source.lines().count();
    let code = source.lines().filter(|(line, _)| !source.is_test(*line)).count();
    let sentence = if code > FILE_LINES {
        format!("{code} lines besides tests, at most {FILE_LINES}: split it by behaviour")
    } else if all > FILE_LINES_WITH_TESTS {
        format!("{all} lines with tests, at most {FILE_LINES_WITH_TESTS}: move the tests to a file")
    } else {
        return None;
    };
    Some(Finding::error(FILE, source, all, sentence))
}

fn check_columns(source: &Source) -> Vec<Finding> {
    let long = source.lines().filter(|(_, line)| line.chars().count() > LINE_COLUMNS);
    let finding = |(number, _)| {
        Finding::error(COLUMNS, source, number, format!("more than {LINE_COLUMNS} characters"))
    };
    long.map(finding).collect()
}

fn check_functions(source: &Source) -> Vec<Finding> {
    let tokens = source.tokens();
    let foreign = trait_impls(&tokens);
    let mut findings = Vec::new();
    for at in 0..tokens.len() {
        let Some([first, name, rest @ ..]) = tokens.get(at..) else { break };
        let is_named = name.text.starts_with(|first: char| first.is_alphabetic() || first == '_');
        if first.text != "fn" || !is_named {
            continue;
        }
        findings.extend(check_length(source, first, name, rest));
        let is_ours = !source.is_test(first.line) && !foreign.iter().any(|body| body.contains(&at));
        if is_ours {
            findings.extend(check_parameters(source, name, rest));
        }
    }
    findings
}

fn check_length(
    source: &Source,
    first: &Token<'_>,
    name: &Token<'_>,
    rest: &[Token<'_>],
) -> Option<Finding> {
    let last = rest.get(..scan::item_length(rest)).and_then(<[_]>::last).unwrap_or(name);
    let lines = last.line - first.line + 1;
    let sentence = format!("`{}` has {lines} lines, at most {FUNCTION_LINES}", name.text);
    (lines > FUNCTION_LINES).then(|| Finding::error(FUNCTION, source, first.line, sentence))
}

fn check_parameters(source: &Source, name: &Token<'_>, rest: &[Token<'_>]) -> Option<Finding> {
    let count = parameters(rest);
    let sentence = format!(
        "`{}` has {count} parameters, at most {FUNCTION_PARAMETERS} besides self",
        name.text
    );
    (count > FUNCTION_PARAMETERS).then(|| Finding::error(PARAMETERS, source, name.line, sentence))
}

/// Where traits are implemented: there the trait says how many parameters a function has.
fn trait_impls(tokens: &[Token<'_>]) -> Vec<Range<usize>> {
    let mut bodies = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let is_item =
            before.is_none_or(|before| matches!(before.text, "}" | ";" | "]" | "{" | "unsafe"));
        if token.text != "impl" || !is_item {
            continue;
        }
        let rest = tokens.get(at..).unwrap_or_default();
        let head = rest.split(|token| token.text == "{").next().unwrap_or_default();
        let implements = head
            .windows(2)
            .any(|pair| matches!(pair, [word, next] if word.text == "for" && next.text != "<"));
        if implements {
            bodies.push(at..at + scan::item_length(rest));
        }
    }
    bodies
}

/// How many parameters besides `self` a function has; its tokens begin after its name.
fn parameters(tokens: &[Token<'_>]) -> usize {
    let mut round = 0_usize;
    let mut angle = 0_usize;
    let mut count = 0;
    let mut in_parameter = false;
    let mut before = "";
    for token in tokens {
        match token.text {
            "(" | "[" | "{" if round > 0 => round += 1,
            "(" if angle == 0 => round = 1,
            ")" | "]" | "}" => {
                round = round.saturating_sub(1);
                if round == 0 && angle == 0 {
                    return count;
                }
            }
            "<" => angle += 1,
            ">" if before != "-" && before != "=" => angle = angle.saturating_sub(1),
            "," if round == 1 && angle == 0 => in_parameter = false,
            "self" if round == 1 && in_parameter && is_receiver_prefix(before) => {
                (in_parameter, count) = (true, count - 1);
            }
            "self" if round == 1 && !in_parameter => in_parameter = true,
            _ if round == 1 && angle == 0 && !in_parameter => {
                (in_parameter, count) = (true, count + 1);
            }
            _ => {}
        }
        before = token.text;
    }
    count
}

/// What may stand before `self` in a parameter list: `&self`, `mut self`, `&'a self`.
fn is_receiver_prefix(before: &str) -> bool {
    matches!(before, "&" | "mut") || before.chars().all(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(text: &str) -> Vec<String> {
        let tree = Tree::new(vec![("crates/a/src/b.rs".into(), text.into())]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_has_400_lines_besides_tests_and_600_with_them() {
        let code = |lines: usize| "// a\n".repeat(lines);
        let tests = |lines: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code(lines - 3));
        assert!(check_one(&code(400)).is_empty());
        assert_eq!(check_one(&code(401)).len(), 1);
        assert!(check_one(&(code(300) + &tests(300))).is_empty());
        assert_eq!(check_one(&(code(301) + &tests(300))).len(), 1);
    }

    #[test]
    fn a_function_has_70_lines() {
        let function = |lines: usize| format!("fn a() {{\n{}}}\n", "b();\n".repeat(lines - 2));
        assert!(check_one(&function(70)).is_empty());
        let found = check_one(&(String::from("\n") + &function(71)));
        assert_eq!(
            found,
            ["crates/a/src/b.rs:2: error: function-length: `a` has 71 lines, at most 70"]
        );
    }

    #[test]
    fn a_function_has_four_parameters_besides_self() {
        let count = |text: &str| {
            let tokens = scan::tokens(text);
            parameters(tokens.get(2..).unwrap_or_default())
        };
        assert_eq!(count("fn a()"), 0);
        assert_eq!(count("fn a(&self, b: B)"), 1);
        assert_eq!(count("fn a(&mut self, b: B, )"), 1);
        assert_eq!(count("fn a(&'a self)"), 0);
        assert_eq!(count("fn a(mut self: Box<Self>, b: Map<K, V>)"), 1);
        assert_eq!(count("fn a<F: Fn(A, B) -> C, D>(f: F, (b, c): (D, D), e: [u8; 4])"), 3);
        assert_eq!(count("fn a(f: impl Fn(A, B) -> C, g: &dyn Fn(&A))"), 2);
    }

    #[test]
    fn a_trait_and_a_test_may_ask_for_more_parameters() {
        let five = "fn a(b: B, c: C, d: D, e: E, f: F) {}";
        assert_eq!(check_one(five).len(), 1);
        assert_eq!(check_one(&format!("impl G {{ {five} }}")).len(), 1);
        assert_eq!(check_one(&format!("impl<H: for<'a> I<'a>> G<H> {{ {five} }}")).len(), 1);
        assert!(check_one(&format!("impl J for G {{ {five} }}")).is_empty());
        assert!(check_one(&format!("#[cfg(test)]\nmod tests {{ {five} }}")).is_empty());
    }

    #[test]
    fn a_line_has_100_characters() {
        assert!(check_one(&"é".repeat(100)).is_empty());
        assert_eq!(check_one(&"/".repeat(101)).len(), 1);
    }
}
