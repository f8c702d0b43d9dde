//! Plain aligned columns, as wide as the terminal.

use std::io::IsTerminal;

use crate::render::clean::one_line;

/// Columns that may be shown, and the cells below them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// The titles.
    pub(crate) titles: Vec<&'static str>,
    /// The rows.
    pub(crate) rows: Vec<TableRow>,
}

/// One row.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableRow {
    /// As many cells as there are titles.
    pub(crate) cells: Vec<String>,
    /// Spaces in front of the first cell, two for each level.
    pub(crate) depth: usize,
    /// The colour of each cell that has one.
    pub(crate) tones: Vec<(usize, Tone)>,
}

/// What a cell says at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Well.
    Good,
    /// Badly.
    Bad,
    /// Under way.
    Busy,
    /// Worth a look.
    Odd,
}

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Characters in a line; none when nothing is to be cut.
    pub(crate) width: Option<usize>,
    /// Whether cells have colours.
    pub(crate) colour: bool,
}

/// A column is never cut below this.
const NARROWEST: usize = 8;
/// Spaces between columns.
const GAP: usize = 2;

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "\u{1b}[32m",
            Self::Bad => "\u{1b}[31m",
            Self::Busy => "\u{1b}[36m",
            Self::Odd => "\u{1b}[33m",
        }
    }
}

/// The table as text. Only the last column is cut, and only where the width is known.
pub(crate) fn draw(table: &Table, look: Look) -> String {
    let rows: Vec<Vec<String>> = table.rows.iter().map(cells_of).collect();
    let widths = widths(table, &rows);
    let titles: Vec<String> = table.titles.iter().map(|title| (*title).to_owned()).collect();
    let mut text = String::new();
    draw_row(&mut text, &Row { cells: &titles, tones: &[] }, &widths, look);
    for (row, cells) in table.rows.iter().zip(&rows) {
        draw_row(&mut text, &Row { cells, tones: &row.tones }, &widths, look);
    }
    text
}

struct Row<'a> {
    cells: &'a [String],
    tones: &'a [(usize, Tone)],
}

fn cells_of(row: &TableRow) -> Vec<String> {
    let mut cells: Vec<String> = row.cells.iter().map(|cell| one_line(cell).into_owned()).collect();
    if let Some(first) = cells.first_mut() {
        first.insert_str(0, &"  ".repeat(row.depth));
    }
    cells
}

fn widths(table: &Table, rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = table.titles.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn draw_row(text: &mut String, row: &Row<'_>, widths: &[usize], look: Look) {
    let mut used = 0;
    let last = row.cells.len().saturating_sub(1);
    for (index, (cell, width)) in row.cells.iter().zip(widths).enumerate() {
        let room = look.width.map(|width| width.saturating_sub(used).max(NARROWEST));
        let shown = if index == last { cut(cell, room) } else { cell.clone() };
        let tone = row.tones.iter().find(|(at, _)| *at == index && look.colour);
        match tone {
            Some((_, tone)) => text.push_str(&format!("{}{shown}\u{1b}[0m", tone.code())),
            None => text.push_str(&shown),
        }
        if index < last {
            let gap = (width + GAP).saturating_sub(shown.chars().count());
            text.extend(std::iter::repeat_n(' ', gap));
        }
        used += width + GAP;
    }
    let trimmed = text.trim_end_matches(' ').len();
    text.truncate(trimmed);
    text.push('\n');
}

fn cut(cell: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if cell.chars().count() > room => {
            let kept: String = cell.chars().take(room.saturating_sub(1)).collect();
            format!("{kept}…")
        }
        _ => cell.to_owned(),
    }
}

/// The width of the terminal behind stdout; none when it is none.
pub(crate) fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let row = |cells: [&str; 3], depth| TableRow {
            cells: cells.map(str::to_owned).to_vec(),
            depth,
            tones: vec![(1, Tone::Bad)],
        };
        Table {
            titles: vec!["ID", "STATE", "COMMAND"],
            rows: vec![
                row(["1", "Failed", "sleep 1000 # a long one"], 0),
                row(["2", "", "x\ny"], 1),
            ],
        }
    }

    #[test]
    fn columns_are_aligned_and_children_indented() {
        let plain = draw(&table(), Look { width: None, colour: false });
        assert_eq!(
            plain,
            "ID   STATE   COMMAND\n\
             1    Failed  sleep 1000 # a long one\n  \
             2          x y\n"
        );
    }

    #[test]
    fn a_terminal_cuts_the_last_column_only() {
        let narrow = draw(&table(), Look { width: Some(23), colour: false });
        assert_eq!(narrow, "ID   STATE   COMMAND\n1    Failed  sleep 100…\n  2          x y\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let shown = draw(&table(), Look { width: None, colour: true });
        assert!(shown.contains("1    \u{1b}[31mFailed\u{1b}[0m  sleep"));
    }
}
