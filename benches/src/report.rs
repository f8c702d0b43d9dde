//! Rows of the table of figures.

use serde::{Deserialize, Serialize};

use crate::program::Outcome;

/// One figure beside its limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// The scenario's number in the list of `benches/README.md`.
    pub number: u8,
    /// What was measured.
    pub scenario: String,
    /// The unit of both figures.
    pub unit: String,
    /// Our figure.
    pub ours: f64,
    /// The limit's figure in the same run, where there is one.
    pub limit: Option<f64>,
    /// What this figure should reach, where something is asked of it.
    pub bound: Option<Bound>,
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At least that share of the limit.
    ShareOfLimit(f64),
    /// At most that many times the limit.
    TimesLimit(f64),
    /// At least that much.
    AtLeast(f64),
    /// At most that much.
    AtMost(f64),
}

impl Row {
    /// A figure without a limit of its own.
    pub fn new(number: u8, scenario: impl Into<String>, unit: &str, ours: f64) -> Self {
        let (scenario, unit) = (scenario.into(), unit.to_owned());
        Self { number, scenario, unit, ours, limit: None, bound: None }
    }

    /// The limit, measured in the same run.
    #[must_use]
    pub const fn limit(mut self, limit: f64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// What is asked of the figure.
    #[must_use]
    pub const fn bound(mut self, bound: Bound) -> Self {
        self.bound = Some(bound);
        self
    }

    /// Our figure divided by the limit's.
    pub fn ratio(&self) -> Option<f64> {
        self.limit.filter(|limit| *limit > 0.0).map(|limit| self.ours / limit)
    }

    /// Whether the figure is as asked; none when nothing is.
    pub fn holds(&self) -> Option<bool> {
        Some(match self.bound? {
            Bound::ShareOfLimit(least) => self.ratio()? >= least,
            Bound::TimesLimit(most) => self.ratio()? <= most,
            Bound::AtLeast(least) => self.ours >= least,
            Bound::AtMost(most) => self.ours <= most,
        })
    }
}

/// The heading of [`line()`]'s table.
pub const HEADING: &str = "  #  scenario                                               \
                           ours        limit  unit         ratio  asked";

/// A row of the table.
pub fn line(row: &Row) -> String {
    let limit = row.limit.map_or_else(|| "-".to_owned(), figure);
    let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let asked = row.bound.map_or_else(String::new, asked);
    let verdict = match row.holds() {
        Some(true) => ", holds",
        Some(false) => ", MISSED",
        None => "",
    };
    let Row { number, scenario, unit, ours, .. } = row;
    let ours = figure(*ours);
    format!(
        "{number:>3}  {scenario:<48} {ours:>12} {limit:>12}  {unit:<10} {ratio:>7}  \
         {asked}{verdict}"
    )
}

fn asked(bound: Bound) -> String {
    match bound {
        Bound::ShareOfLimit(least) => format!("ratio >= {least}"),
        Bound::TimesLimit(most) => format!("ratio <= {most}"),
        Bound::AtLeast(least) => format!(">= {}", figure(least)),
        Bound::AtMost(most) => format!("<= {}", figure(most)),
    }
}

/// A figure with about three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[derive(Serialize)]
struct Printed<'row> {
    #[serde(flatten)]
    row: &'row Row,
    ratio: Option<f64>,
    holds: Option<bool>,
}

/// Prints rows: a table, or as `json` one object a line.
///
/// # Errors
/// A row that has no JSON form.
pub fn print(rows: &[Row], json: bool) -> Outcome<()> {
    if !json {
        println!("{HEADING}");
    }
    for row in rows {
        if json {
            let printed = Printed { row, ratio: row.ratio(), holds: row.holds() };
            println!("{}", serde_json::to_string(&printed)?);
        } else {
            println!("{}", line(row));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_on_its_own_side() {
        let check = |bound, ours, limit, expected| {
            let row = Row::new(1, "any", "s", ours).limit(limit).bound(bound);
            assert_eq!(row.holds(), Some(expected), "{bound:?} of {ours} beside {limit}");
        };
        check(Bound::ShareOfLimit(0.75), 80.0, 100.0, true);
        check(Bound::ShareOfLimit(0.75), 70.0, 100.0, false);
        check(Bound::TimesLimit(1.6), 1.5, 1.0, true);
        check(Bound::TimesLimit(1.6), 1.7, 1.0, false);
        check(Bound::AtLeast(5.0), 5.0, 1.0, true);
        check(Bound::AtMost(5.0), 5.1, 1.0, false);
    }

    #[test]
    fn a_row_comes_back_from_its_json() {
        let row = Row::new(7, "any", "MB/s", 3.0).limit(4.0).bound(Bound::ShareOfLimit(0.5));
        let text = serde_json::to_string(&row).unwrap();
        let back: Row = serde_json::from_str(&text).unwrap();
        assert_eq!(line(&back), line(&row));
    }
}
