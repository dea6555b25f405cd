//! Cuts a query into names, numbers, bind variables and symbols.
use std::fmt;

/// One piece of a query. What is none of the others is a symbol of one character.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    /// `@name`
    Variable(&'a str),
    /// `@@name`
    CollectionVariable(&'a str),
    Symbol(&'a str),
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Number(text) | Self::Symbol(text) => f.write_str(text),
            Self::Variable(name) => write!(f, "@{name}"),
            Self::CollectionVariable(name) => write!(f, "@@{name}"),
        }
    }
}

const LONG_SYMBOLS: [&str; 6] = [">=", "<=", "==", "!=", "&&", "||"];

/// The tokens of a text, one after the other.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Consumes the next token if it is this word, in either case.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        self.take_if(
            |token| matches!(token, Token::Name(name) if name.eq_ignore_ascii_case(keyword)),
        )
    }

    /// Consumes the next token if it is this symbol.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        self.take_if(|token| token == Token::Symbol(symbol))
    }

    fn take_if(&mut self, is_wanted: impl Fn(Token<'a>) -> bool) -> bool {
        let mut ahead = self.clone();
        let taken = ahead.next().is_some_and(is_wanted);
        if taken {
            *self = ahead;
        }
        taken
    }

    fn split(&mut self, length: usize) -> &'a str {
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        token
    }

    fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.split(length)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if let Some(quoted) = self.rest.strip_prefix('`')
            && let Some(length) = quoted.find('`')
        {
            self.rest = &quoted[length + 1..];
            return Some(Token::Name(&quoted[..length]));
        }
        Some(match first {
            '@' if self.rest.starts_with("@@") => {
                self.split(2);
                Token::CollectionVariable(self.word())
            }
            '@' => {
                self.split(1);
                Token::Variable(self.word())
            }
            first if first.is_alphabetic() || first == '_' => Token::Name(self.word()),
            first if first.is_ascii_digit() || first == '-' => {
                let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
                let length = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                Token::Number(self.split(length))
            }
            first => {
                let long = LONG_SYMBOLS
                    .iter()
                    .any(|symbol| self.rest.starts_with(symbol));
                Token::Symbol(self.split(if long { 2 } else { first.len_utf8() }))
            }
        })
    }
}
