//! From text to a tree. The tree is flat: a union of intersections of operands.

use super::BadNodeExpr;
use crate::limits;
use crate::selector::glob::{Case, Matcher};

/// Intersections joined by `,`.
#[derive(Debug)]
pub(super) struct Union(pub(super) Vec<Vec<Operand>>);

/// One operand of an intersection.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) negated: bool,
    pub(super) at: usize,
    pub(super) atom: Atom,
}

#[derive(Debug)]
pub(super) enum Atom {
    All,
    /// Names written out, in full or by ranges.
    Names(Word),
    /// A glob, possibly with ranges.
    Pattern(Word),
    Group(String),
    Label {
        key: String,
        value: Matcher,
    },
}

/// A name with ranges in it: text and ranges by turns.
#[derive(Debug, Default)]
pub(super) struct Word(pub(super) Vec<Segment>);

#[derive(Debug)]
pub(super) enum Segment {
    Text(String),
    Numbers(Vec<Span>),
}

/// `first-last/step` with leading zeros up to `width` digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) step: u64,
    pub(super) width: usize,
}

impl Union {
    pub(super) fn all() -> Self {
        Self(vec![vec![Operand { negated: false, at: 0, atom: Atom::All }]])
    }

    pub(super) fn node(name: &str) -> Self {
        let atom = Atom::Names(Word(vec![Segment::Text(name.to_owned())]));
        Self(vec![vec![Operand { negated: false, at: 0, atom }]])
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().filter_map(|operand| match &operand.atom {
            Atom::Group(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl Span {
    fn count(self) -> u64 {
        (self.last - self.first) / self.step + 1
    }
}

impl Word {
    /// How many names it stands for; saturates.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().fold(1, |product, segment| match segment {
            Segment::Text(_) => product,
            Segment::Numbers(spans) => {
                let sum = spans.iter().fold(0_u64, |sum, span| sum.saturating_add(span.count()));
                product.saturating_mul(sum)
            }
        })
    }
}

pub(super) fn parse(text: &str) -> Result<Union, BadNodeExpr> {
    if text.len() > limits::EXPRESSION_BYTES {
        return Err(BadNodeExpr::TooLong);
    }
    let mut budget = Budget { names: 0, patterns: 0 };
    let mut union = vec![Vec::new()];
    let mut at = 0;
    loop {
        let (operand, end) = operand(text, at)?;
        budget.spend(&operand)?;
        if let Some(last) = union.last_mut() {
            last.push(operand);
        }
        match text.as_bytes().get(end) {
            None => return Ok(Union(union)),
            Some(b',') => union.push(Vec::new()),
            Some(_) => {}
        }
        at = end + 1;
    }
}

struct Budget {
    names: u64,
    patterns: u64,
}

impl Budget {
    fn spend(&mut self, operand: &Operand) -> Result<(), BadNodeExpr> {
        let at = operand.at;
        match &operand.atom {
            Atom::Names(word) => self.names = self.names.saturating_add(word.count()),
            Atom::Pattern(word) => self.patterns = self.patterns.saturating_add(word.count()),
            Atom::All | Atom::Group(_) | Atom::Label { .. } => self.patterns += 1,
        }
        if self.names > limits::EXPRESSION_NODES as u64 {
            return Err(BadNodeExpr::TooMany { at });
        }
        if self.patterns > limits::EXPRESSION_PATTERNS as u64 {
            return Err(BadNodeExpr::TooManyPatterns { at });
        }
        Ok(())
    }
}

/// The operand that begins at byte `at`, and the byte behind it: a `,`, a `&` or the end.
fn operand(text: &str, at: usize) -> Result<(Operand, usize), BadNodeExpr> {
    let end = operand_end(text, at)?;
    let mut rest = text.get(at..end).unwrap_or_default();
    let mut negations = 0;
    loop {
        rest = rest.trim_start();
        let Some(behind) = rest.strip_prefix('!') else { break };
        rest = behind;
        negations += 1;
        if negations > limits::EXPRESSION_DEPTH {
            return Err(BadNodeExpr::TooDeep { at });
        }
    }
    let at = end - rest.len();
    let atom = atom(rest.trim_end(), at)?;
    Ok((Operand { negated: negations % 2 == 1, at, atom }, end))
}

fn operand_end(text: &str, at: usize) -> Result<usize, BadNodeExpr> {
    let mut open = None;
    for (offset, byte) in text.bytes().enumerate().skip(at) {
        match (byte, open) {
            (b'[', None) => open = Some(offset),
            (b']', _) => open = None,
            (b',' | b'&', None) => return Ok(offset),
            _ => {}
        }
    }
    match open {
        Some(at) => Err(BadNodeExpr::Unclosed { at }),
        None => Ok(text.len()),
    }
}

fn atom(text: &str, at: usize) -> Result<Atom, BadNodeExpr> {
    if text.is_empty() {
        return Err(BadNodeExpr::Missing { at });
    }
    if text == "*" {
        return Ok(Atom::All);
    }
    if let Some(name) = text.strip_prefix('@') {
        return key(name, at + 1).map(Atom::Group);
    }
    if let Some((name, value)) = text.split_once('=') {
        let key = key(name, at)?;
        return Ok(Atom::Label { key, value: label_value(value, at + name.len() + 1)? });
    }
    word(text, at)
}

/// A group's or a label's name.
fn key(text: &str, at: usize) -> Result<String, BadNodeExpr> {
    if text.is_empty() {
        return Err(BadNodeExpr::Missing { at });
    }
    let allowed = |found: char| found.is_ascii_alphanumeric() || "-_./".contains(found);
    match text.char_indices().find(|(_, found)| !allowed(*found)) {
        Some((offset, found)) => Err(BadNodeExpr::Character { at: at + offset, found }),
        None => Ok(text.to_owned()),
    }
}

fn label_value(text: &str, at: usize) -> Result<Matcher, BadNodeExpr> {
    if text.is_empty() {
        return Err(BadNodeExpr::Missing { at });
    }
    if let Some((offset, found)) = text.char_indices().find(|(_, found)| found.is_control()) {
        return Err(BadNodeExpr::Character { at: at + offset, found });
    }
    let mut brackets = text.match_indices('[');
    if let Some((offset, _)) = brackets.find(|(offset, _)| is_range_of_numbers(text, *offset)) {
        return Err(BadNodeExpr::RangeInValue { at: at + offset });
    }
    Ok(Matcher::new(text, Case::Distinct))
}

/// Whether the bracket means numbers of several digits or a list, which a class would misread.
fn is_range_of_numbers(text: &str, open: usize) -> bool {
    let body = text.get(open + 1..).and_then(|rest| rest.split_once(']')).map_or("", |it| it.0);
    let digits = body.bytes().filter(u8::is_ascii_digit).count();
    let plain = body.bytes().all(|byte| byte.is_ascii_digit() || b"-,/".contains(&byte));
    plain && (body.contains([',', '/']) || digits > 2)
}

fn word(text: &str, at: usize) -> Result<Atom, BadNodeExpr> {
    let mut segments = Vec::new();
    let mut plain = String::new();
    let mut glob = false;
    let mut offset = 0;
    while let Some(found) = text.get(offset..).and_then(|rest| rest.chars().next()) {
        match found {
            '[' => {
                let body = text
                    .get(offset + 1..)
                    .and_then(|rest| rest.split_once(']'))
                    .ok_or(BadNodeExpr::Unclosed { at: at + offset })?
                    .0;
                if let Some(spans) = numbers(body, at + offset)? {
                    if segments.len() >= 2 * limits::EXPRESSION_DEPTH {
                        return Err(BadNodeExpr::TooManyRanges { at: at + offset });
                    }
                    segments.push(Segment::Text(std::mem::take(&mut plain)));
                    segments.push(Segment::Numbers(spans));
                } else {
                    glob = true;
                    plain.extend(["[", body, "]"]);
                }
                offset += body.len() + 2;
                continue;
            }
            '*' | '?' => glob = true,
            _ if found.is_ascii_alphanumeric() || "-_.".contains(found) => {}
            _ => return Err(BadNodeExpr::Character { at: at + offset, found }),
        }
        plain.push(found);
        offset += found.len_utf8();
    }
    segments.push(Segment::Text(plain));
    let word = Word(segments);
    Ok(if glob { Atom::Pattern(word) } else { Atom::Names(word) })
}

/// The numbers that a bracket means; none if it is a class of characters.
fn numbers(body: &str, at: usize) -> Result<Option<Vec<Span>>, BadNodeExpr> {
    let is_class = body.starts_with('!')
        || !body.bytes().all(|byte| byte.is_ascii_digit() || b"-,/ ".contains(&byte));
    if is_class {
        return Ok(None);
    }
    body.split(',').map(|part| span(part.trim(), at)).collect::<Result<Vec<_>, _>>().map(Some)
}

fn span(text: &str, at: usize) -> Result<Span, BadNodeExpr> {
    let bad = BadNodeExpr::Range { at };
    let number = |digits: &str| -> Result<u64, BadNodeExpr> {
        // `parse` alone would take a sign.
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        if plain { digits.parse().map_err(|_| bad.clone()) } else { Err(bad.clone()) }
    };
    let (ends, step) = match text.split_once('/') {
        Some((ends, step)) => (ends, number(step)?),
        None => (text, 1),
    };
    let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
    let (low, high) = (number(first)?, number(last)?);
    let padded = |digits: &str| digits.len() > 1 && digits.starts_with('0');
    let mixed = padded(last) && first.len() != last.len();
    if step == 0 || mixed || first.len() > 18 || last.len() > 18 {
        return Err(bad);
    }
    if low > high {
        return Err(BadNodeExpr::Backwards { at });
    }
    let width = if padded(first) || padded(last) { first.len() } else { 0 };
    Ok(Span { first: low, last: high, step, width })
}
