//! Rows under headings, as wide as they have to be.

use anstyle::Style;

use super::text::BOLD;

/// One cell: colour does not count as width.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::styled(text, Style::new())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(text: Option<T>) -> Self {
        text.map(Into::into).unwrap_or_default()
    }
}

/// A table with its headings. `>` before a heading puts its column to the right.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[Cell; N]]) -> String {
    let to_right = headings.map(|heading| heading.starts_with('>'));
    let headings = headings.map(|heading| Cell::styled(heading.trim_start_matches('>'), BOLD));
    let all = || std::iter::once(&headings).chain(rows);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let widths = all().map(|row| row[column].text.chars().count());
        widths.max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        let mut blanks = 0;
        for (column, Cell { text, style }) in row.iter().enumerate() {
            let pad = widths[column] - text.chars().count();
            let (before, after) = if to_right[column] { (pad, 0) } else { (0, pad) };
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', blanks + before));
                line += &format!("{style}{text}{style:#}");
                blanks = after;
            } else {
                blanks += before + after;
            }
            blanks += 2;
        }
        text += &line;
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;

    use super::*;

    #[test]
    fn colour_and_letters_beyond_ascii_do_not_shift_columns() {
        let red = AnsiColor::Red.on_default();
        let text = table(
            ["name", ">n", "why"],
            &[
                ["é".into(), "1".into(), "a".into()],
                [
                    Cell::styled("long", red),
                    "1,000".into(),
                    None::<String>.into(),
                ],
            ],
        );
        assert!(text.contains("\u{1b}[31m"), "{text:?}");
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "name      n  why\né         1  a\nlong  1,000\n");
    }
}
