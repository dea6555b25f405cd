//! Texts of bounded length. Whatever comes from outside, such as an exchange, a broker, a database, a command or a
//! variable, may be of any length; what is made of it for an event, a log line or a header is cut here.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// The most characters that a text in an event, a log field or a header has.
pub const MAX_CHARS: usize = 1_000;
/// Ends a text that was cut; it counts as one of its characters.
const ELLIPSIS: char = '…';

/// At most [`MAX_CHARS`] characters of a text. One that was cut ends with `…`.
pub fn cut(text: &str) -> Cow<'_, str> {
    cut_to(text, MAX_CHARS)
}

/// At most `most` characters of a text. One that was cut ends with `…`.
pub fn cut_to(text: &str, most: usize) -> Cow<'_, str> {
    // No text has more characters than bytes.
    if text.len() <= most || text.char_indices().nth(most).is_none() {
        return Cow::Borrowed(text);
    }
    if most == 0 {
        return Cow::Borrowed("");
    }
    let end = text.char_indices().nth(most - 1).map_or(0, |(at, _)| at);
    let mut kept = String::with_capacity(end + ELLIPSIS.len_utf8());
    kept.push_str(&text[..end]);
    kept.push(ELLIPSIS);
    Cow::Owned(kept)
}

/// The same for a text that is owned: nothing is copied where nothing is cut.
pub fn cut_owned(text: String) -> String {
    match cut(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(kept) => kept,
    }
}

/// Formats at most [`MAX_CHARS`] characters, and no more of the value than that: of one that writes a megabyte only the
/// beginning is ever in memory.
pub fn formatted(arguments: fmt::Arguments<'_>) -> String {
    let mut bounded = Bounded::default();
    // The only error is that there was more.
    let _ = bounded.write_fmt(arguments);
    bounded.text
}

#[derive(Default)]
struct Bounded {
    text: String,
    chars: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for char in more.chars() {
            if self.chars == MAX_CHARS {
                self.text.pop();
                self.text.push(ELLIPSIS);
                return Err(fmt::Error);
            }
            self.text.push(char);
            self.chars += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_a_thousand_characters_of_any_size() {
        for char in ["x", "é", "…", "𝄞"] {
            let fits = char.repeat(MAX_CHARS);
            assert!(matches!(cut(&fits), Cow::Borrowed(_)));
            assert_eq!(cut_owned(fits.clone()), fits);
            assert_eq!(formatted(format_args!("{fits}")), fits);

            let longer = char.repeat(300_000);
            let kept = format!("{}…", char.repeat(MAX_CHARS - 1));
            assert_eq!(cut(&longer), kept);
            assert_eq!(cut_owned(longer.clone()), kept);
            assert_eq!(formatted(format_args!("{longer}")), kept);
        }
        assert_eq!(cut_to("abc", 2), "a…");
        assert_eq!(cut_to("abc", 0), "");
        assert_eq!(cut(""), "");
    }
}
