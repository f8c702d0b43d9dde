//! One list, every format: table, wide, json, ndjson, csv, yaml, name.

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::Failure;
use crate::render::clean::one_line;
use crate::render::json;
use crate::render::table::{Look, Table, TableRow, Tone, draw};
use crate::render::yaml::to_yaml;

/// How a list is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// Aligned columns, more of them.
    Wide,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values.
    Csv,
    /// One YAML document.
    Yaml,
    /// Names, one a line.
    Name,
}

/// A column: the field of the JSON object it shows, and its title.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// As in JSON, and for `--columns`.
    pub(crate) field: &'static str,
    /// Above the column.
    pub(crate) title: &'static str,
    /// Where it is shown unless it is asked for.
    pub(crate) shown: Shown,
}

/// Where a column is shown unless it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Always.
    Always,
    /// In `wide` only.
    Wide,
}

/// Columns: field, title, and where they are shown.
macro_rules! columns {
    ($($field:literal $title:literal $shown:ident),+ $(,)?) => {
        &[$($crate::render::sheet::Column {
            field: $field,
            title: $title,
            shown: $crate::render::sheet::Shown::$shown,
        }),+]
    };
}
pub(crate) use columns;

/// One thing of a list.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// As JSON.
    pub(crate) json: Value,
    /// What `-q` prints.
    pub(crate) id: String,
    /// What `-o name` prints.
    pub(crate) name: String,
    /// How deep below its parent it stands.
    pub(crate) depth: usize,
    /// A text for each column.
    pub(crate) cells: Vec<String>,
    /// What its state says at a glance, and in which column.
    pub(crate) tone: Option<(usize, Tone)>,
}

/// A list.
#[derive(Debug, Clone)]
pub(crate) struct Sheet {
    /// The field of the JSON document that holds it.
    pub(crate) field: &'static str,
    /// The columns.
    pub(crate) columns: &'static [Column],
    /// What is listed.
    pub(crate) items: Vec<Item>,
    /// More fields of the JSON document.
    pub(crate) more: Vec<(&'static str, Value)>,
}

/// What the user asked to see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// The format.
    pub(crate) format: Format,
    /// The columns, by field; the format's own if none.
    pub(crate) columns: Vec<String>,
    /// Ids only.
    pub(crate) ids_only: bool,
}

impl Wanted {
    /// Refuses columns that are none of these, and columns for a format that has none: known
    /// before there is a list.
    pub(crate) fn check(&self, columns: &[Column]) -> Result<(), Failure> {
        let has_columns = matches!(self.format, Format::Table | Format::Wide | Format::Csv);
        if !has_columns && !self.ids_only && !self.columns.is_empty() {
            let text = "`--columns` applies to table, wide and csv only";
            return Err(Failure::usage(text).hint("leave `--columns` out, or choose one of these"));
        }
        self.pick(columns).map(drop)
    }

    /// The places of those that are shown.
    fn pick(&self, columns: &[Column]) -> Result<Vec<usize>, Failure> {
        if self.columns.is_empty() {
            let wide = self.format != Format::Table;
            let shown = |column: &Column| wide || column.shown == Shown::Always;
            let columns = columns.iter().enumerate().filter(|(_, column)| shown(column));
            return Ok(columns.map(|(index, _)| index).collect());
        }
        let find = |name: &String| {
            let plain = name.trim().to_ascii_lowercase().replace('-', "_");
            columns.iter().position(|column| column.field == plain).ok_or_else(|| {
                let fields: Vec<&str> = columns.iter().map(|column| column.field).collect();
                Failure::usage(format_args!("there is no column `{name}`"))
                    .hint(format!("columns are {}", fields.join(", ")))
            })
        };
        self.columns.iter().map(find).collect()
    }
}

impl Sheet {
    /// The list as it is to be written.
    pub(crate) fn render(&self, wanted: &Wanted, look: Look) -> Result<String, Failure> {
        wanted.check(self.columns)?;
        if wanted.ids_only {
            return Ok(lines(self.items.iter().map(|item| item.id.as_str())));
        }
        match wanted.format {
            Format::Table | Format::Wide => {
                Ok(draw(&self.table(&wanted.pick(self.columns)?), look))
            }
            Format::Csv => Ok(self.csv(&wanted.pick(self.columns)?)),
            Format::Json => Ok(format!("{}\n", self.document())),
            Format::Yaml => Ok(to_yaml(&self.document())),
            Format::Ndjson => {
                Ok(self.items.iter().map(|item| format!("{}\n", item.json)).collect())
            }
            Format::Name => Ok(lines(self.items.iter().map(|item| item.name.as_str()))),
        }
    }

    fn document(&self) -> Value {
        let items = self.items.iter().map(|item| item.json.clone()).collect();
        let mut document = json::document(self.field, Value::Array(items));
        if let Value::Object(fields) = &mut document {
            let more = self.more.iter().map(|(field, value)| ((*field).to_owned(), value.clone()));
            fields.extend(more);
        }
        document
    }

    fn table(&self, columns: &[usize]) -> Table {
        let titles = columns.iter().filter_map(|at| self.columns.get(*at));
        let row = |item: &Item| TableRow {
            cells: columns.iter().filter_map(|at| item.cells.get(*at).cloned()).collect(),
            depth: item.depth,
            tones: columns
                .iter()
                .enumerate()
                .filter_map(|(shown, at)| {
                    item.tone.filter(|(of, _)| of == at).map(|(_, tone)| (shown, tone))
                })
                .collect(),
        };
        Table {
            titles: titles.map(|column| column.title).collect(),
            rows: self.items.iter().map(row).collect(),
        }
    }

    fn csv(&self, columns: &[usize]) -> String {
        let fields: Vec<&str> = columns
            .iter()
            .filter_map(|at| self.columns.get(*at))
            .map(|column| column.field)
            .collect();
        let head = fields.join(",");
        let row = |item: &Item| {
            let cells = fields.iter().map(|field| csv_cell(item.json.get(field)));
            cells.collect::<Vec<_>>().join(",")
        };
        let rows: Vec<String> = std::iter::once(head).chain(self.items.iter().map(row)).collect();
        format!("{}\n", rows.join("\n"))
    }
}

/// One line for each word, without control characters.
fn lines<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("{}\n", one_line(word))).collect()
}

/// A JSON value as one CSV field, quoted where it must be (RFC 4180).
fn csv_cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let quoted = text.contains([',', '"', '\n', '\r']);
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
