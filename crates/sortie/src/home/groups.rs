//! Groups for node expressions, edited by people: `groups.toml`.
//!
//! ```toml
//! web = "web[01-20] & !web13"
//! all-db = ["db1", "role=db"]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use sortie_model::nodeset::NodeExpr;
use toml::{Spanned, Value};

use crate::home::{HomeError, Mistake, files};

/// Groups by name; each is the union of its expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    by_name: BTreeMap<String, Vec<String>>,
}

impl Groups {
    /// What the file says; no groups where there is no file.
    pub(super) fn read(path: &Path) -> Result<Self, HomeError> {
        let Some(bytes) = files::read(path)? else { return Ok(Self::default()) };
        Self::parse(path, &text_of(path, bytes)?)
    }

    /// What a text says; `path` is named in errors.
    fn parse(path: &Path, text: &str) -> Result<Self, HomeError> {
        let table: BTreeMap<String, Spanned<Value>> =
            toml::from_str(text).map_err(|error| form(path, text, &error))?;
        let mut by_name = BTreeMap::new();
        let mut links = Links::default();
        for (group, value) in table {
            let span = value.span();
            let mistake = |what| mistake(path, text, Some(span.clone()), what);
            if NodeExpr::try_from(format!("@{group}")).is_err() {
                return Err(mistake(Mistake::GroupName(group)));
            }
            let Some(expressions) = expressions(value.into_inner()) else {
                return Err(mistake(Mistake::Group(group)));
            };
            let mut named = BTreeSet::new();
            for text in &expressions {
                match NodeExpr::try_from(text.clone()) {
                    Ok(expression) => named.extend(expression.groups().map(str::to_owned)),
                    Err(fault) => return Err(mistake(Mistake::Expression { group, fault })),
                }
            }
            links.by_name.insert(group.clone(), Link { named, span });
            by_name.insert(group, expressions);
        }
        match links.mistake() {
            Some((span, what)) => Err(mistake(path, text, Some(span), what)),
            None => Ok(Self { by_name }),
        }
    }

    /// All of them, by name.
    pub(crate) fn into_map(self) -> BTreeMap<String, Vec<String>> {
        self.by_name
    }
}

/// Which groups name which.
#[derive(Debug, Default)]
struct Links {
    by_name: BTreeMap<String, Link>,
}

/// The groups that a group names, and where it stands.
#[derive(Debug)]
struct Link {
    named: BTreeSet<String>,
    span: Range<usize>,
}

impl Links {
    /// A group that names what is not there, or itself.
    fn mistake(mut self) -> Option<(Range<usize>, Mistake)> {
        let unknown = self.by_name.iter().find_map(|(group, link)| {
            let name = link.named.iter().find(|name| !self.by_name.contains_key(*name))?;
            let (group, name) = (group.as_str().into(), name.as_str().into());
            Some((link.span.clone(), Mistake::UnknownGroup { group, name }))
        });
        unknown.or_else(|| {
            self.keep_circles();
            self.circle()
        })
    }

    /// Takes out the groups that name none that is left, until all that are left name one.
    fn keep_circles(&mut self) {
        let mut named_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for (group, link) in &self.by_name {
            left.insert(group, link.named.len());
            for name in &link.named {
                named_by.entry(name).or_default().push(group);
            }
        }
        let bare = left.iter().filter(|(_, count)| **count == 0).map(|(group, _)| *group);
        let mut bare: Vec<&str> = bare.collect();
        let mut out = BTreeSet::new();
        while let Some(group) = bare.pop() {
            out.insert(group.to_owned());
            for by in named_by.get(group).into_iter().flatten() {
                let Some(count) = left.get_mut(by) else { continue };
                *count = count.saturating_sub(1);
                if *count == 0 {
                    bare.push(by);
                }
            }
        }
        self.by_name.retain(|group, _| !out.contains(group));
    }

    /// A circle, where each group names one that is here.
    fn circle(&self) -> Option<(Range<usize>, Mistake)> {
        let mut way: Vec<&String> = vec![self.by_name.keys().next()?];
        loop {
            let link = self.by_name.get(*way.last()?)?;
            let next = link.named.iter().find(|name| self.by_name.contains_key(*name))?;
            let Some(place) = way.iter().position(|group| *group == next) else {
                way.push(next);
                continue;
            };
            let mut circle = way.into_iter().skip(place).cloned();
            let group = circle.next()?;
            let span = self.by_name.get(&group)?.span.clone();
            let (group, others) = (group.into(), circle.collect());
            return Some((span, Mistake::Circle { group, others }));
        }
    }
}

fn expressions(value: Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => many
            .into_iter()
            .map(|value| match value {
                Value::String(one) => Some(one),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

/// The text of a file that people edit.
pub(super) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, HomeError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default());
        let what = Mistake::Form("this is no text in UTF-8".to_owned());
        mistake(path, &before, Some(good..good), what)
    })
}

/// A file that does not have the form of its kind.
pub(super) fn form(path: &Path, text: &str, error: &toml::de::Error) -> HomeError {
    let what = error.message().lines().collect::<Vec<_>>().join(", ");
    mistake(path, text, error.span(), Mistake::Form(what))
}

fn mistake(path: &Path, text: &str, span: Option<Range<usize>>, what: Mistake) -> HomeError {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
    HomeError::Mistake { path: path.to_owned(), line: before.matches('\n').count() + 1, what }
}
