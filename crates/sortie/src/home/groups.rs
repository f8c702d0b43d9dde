//! Groups for node expressions, edited by people: `groups.toml`.
//!
//! ```toml
//! web = "web[01-20] & !web13"
//! all-db = ["db1", "role=db"]
//! ```

use std::collections::BTreeMap;
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
        for (group, value) in table {
            let span = value.span();
            let mistake = |what| mistake(path, text, Some(span), what);
            if NodeExpr::try_from(format!("@{group}")).is_err() {
                return Err(mistake(Mistake::GroupName(group)));
            }
            let Some(expressions) = expressions(value.into_inner()) else {
                return Err(mistake(Mistake::Group(group)));
            };
            let parsed = |text: &String| NodeExpr::try_from(text.clone());
            if let Some(fault) = expressions.iter().find_map(|text| parsed(text).err()) {
                return Err(mistake(Mistake::Expression { group, fault }));
            }
            by_name.insert(group, expressions);
        }
        Ok(Self { by_name })
    }

    /// All of them, by name.
    pub(crate) fn into_map(self) -> BTreeMap<String, Vec<String>> {
        self.by_name
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
