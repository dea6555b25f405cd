//! The one form of AQL this server understands:
//!
//! ```text
//! FOR d IN @@collection
//!   [FILTER d.open_time >= @start AND d.open_time < @end]
//!   [SORT d.open_time [ASC | DESC]]
//!   [LIMIT [offset,] count]
//!   RETURN d
//! ```
//!
//! Any attribute at the top level will do, names may stand where bind variables stand, and numbers where
//! values stand. Everything else is answered with 501 and what it was.
use std::{cmp::Ordering, collections::BTreeSet};

use redb::ReadableTable as _;
use serde_json::{Map, Value};

use super::{
    super::{
        error::{ApiError, Known},
        record::Record,
        store::Snapshot,
    },
    order,
};

mod tokens;

use tokens::{Token, Tokens};

#[derive(Debug, PartialEq)]
pub(super) struct Query {
    pub(super) collection: String,
    conditions: Vec<Condition>,
    sort: Option<Sort>,
    offset: usize,
    limit: Option<usize>,
}

/// `attribute comparison value`, all of which must hold.
#[derive(Debug, PartialEq)]
struct Condition {
    attribute: String,
    comparison: Comparison,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

#[derive(Debug, PartialEq)]
struct Sort {
    attribute: String,
    descending: bool,
}

/// What a query found.
pub(super) struct Results {
    /// Of the documents to return, in their order.
    pub(super) keys: Vec<String>,
    /// How many documents were looked at.
    pub(super) scanned: usize,
    /// How many passed the filter, before `LIMIT`.
    pub(super) matched: usize,
}

impl Query {
    pub(super) fn parse(text: &str, variables: &Map<String, Value>) -> Result<Self, ApiError> {
        let mut parser = Parser {
            tokens: Tokens::new(text),
            variables,
            used: BTreeSet::new(),
        };
        let query = parser.query()?;
        let undeclared = variables.keys().find(|name| !parser.used.contains(*name));
        match undeclared {
            Some(name) => Err(ApiError::about(Known::BindParameterUndeclared, name)),
            None => Ok(query),
        }
    }

    pub(super) fn run(&self, documents: &Snapshot) -> Result<Results, ApiError> {
        let conditions = self
            .conditions
            .iter()
            .map(|condition| condition.attribute.as_str());
        let sorted_by = self.sort.iter().map(|sort| sort.attribute.as_str());
        let wanted: Vec<&str> = conditions.chain(sorted_by).collect();

        let mut found: Vec<(Option<Value>, String)> = Vec::new();
        let mut scanned = 0;
        for entry in documents.iter()? {
            let (key, stored) = entry?;
            scanned += 1;
            let mut values = Record::decode(stored.value()).pick(&wanted)?;
            for (value, name) in values.iter_mut().zip(&wanted) {
                if *name == "_key" {
                    *value = Value::from(key.value());
                }
            }
            let sorted_by = self.sort.as_ref().and_then(|_| values.pop());
            let holds = |(condition, value): (&Condition, &Value)| condition.holds(value);
            if self.conditions.iter().zip(&values).all(holds) {
                found.push((sorted_by, key.value().to_owned()));
            }
        }
        if let Some(sort) = &self.sort {
            found.sort_by(|(left, _), (right, _)| {
                let null = &Value::Null;
                let order = order::compare(
                    left.as_ref().unwrap_or(null),
                    right.as_ref().unwrap_or(null),
                );
                if sort.descending {
                    order.reverse()
                } else {
                    order
                }
            });
        }
        let matched = found.len();
        let keys = found.into_iter().map(|(_, key)| key).skip(self.offset);
        let keys = keys.take(self.limit.unwrap_or(usize::MAX)).collect();
        Ok(Results {
            keys,
            scanned,
            matched,
        })
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        let order = order::compare(value, &self.value);
        match self.comparison {
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Equal => order == Ordering::Equal,
            Comparison::GreaterOrEqual => order != Ordering::Less,
            Comparison::Greater => order == Ordering::Greater,
        }
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    variables: &'a Map<String, Value>,
    /// The bind variables met so far.
    used: BTreeSet<String>,
}

/// What the parser does not understand, as the error that says so.
fn lacking(token: Option<Token<'_>>) -> ApiError {
    let token = token.map_or("the end of the query".to_owned(), |token| {
        format!("`{token}`")
    });
    ApiError::lacking(format!(
        "AQL beyond `FOR d IN @@collection FILTER d.open_time >= @start AND d.open_time < @end \
         SORT d.open_time LIMIT n RETURN d`; it stopped at {token}"
    ))
}

impl<'a> Parser<'a> {
    fn query(&mut self) -> Result<Query, ApiError> {
        self.keyword("FOR")?;
        let variable = self.name()?;
        self.keyword("IN")?;
        let collection = self.collection()?;
        let mut conditions = Vec::new();
        while self.tokens.take_keyword("FILTER") {
            loop {
                conditions.push(self.condition(variable)?);
                if !self.tokens.take_keyword("AND") && !self.tokens.take_symbol("&&") {
                    break;
                }
            }
        }
        let sort = match self.tokens.take_keyword("SORT") {
            true => Some(self.sort(variable)?),
            false => None,
        };
        let (offset, limit) = match self.tokens.take_keyword("LIMIT") {
            true => self.limit()?,
            false => (0, None),
        };
        self.keyword("RETURN")?;
        let returned = self.tokens.next();
        let rest = self.tokens.next();
        if returned != Some(Token::Name(variable)) || rest.is_some() {
            return Err(lacking(rest.or(returned)));
        }
        Ok(Query {
            collection,
            conditions,
            sort,
            offset,
            limit,
        })
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), ApiError> {
        match self.tokens.take_keyword(keyword) {
            true => Ok(()),
            false => Err(lacking(self.tokens.next())),
        }
    }

    fn name(&mut self) -> Result<&'a str, ApiError> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name),
            other => Err(lacking(other)),
        }
    }

    fn collection(&mut self) -> Result<String, ApiError> {
        match self.tokens.next() {
            Some(Token::Name(name)) => Ok(name.to_owned()),
            Some(Token::CollectionVariable(name)) => {
                let name = format!("@{name}");
                match self.variable(&name)? {
                    Value::String(collection) => Ok(collection),
                    _ => Err(ApiError::about(Known::BindParameterType, name)),
                }
            }
            other => Err(lacking(other)),
        }
    }

    fn variable(&mut self, name: &str) -> Result<Value, ApiError> {
        self.used.insert(name.to_owned());
        let value = self.variables.get(name).cloned();
        value.ok_or_else(|| ApiError::about(Known::BindParameterMissing, name))
    }

    fn attribute(&mut self, variable: &str) -> Result<String, ApiError> {
        match self.tokens.next() {
            Some(Token::Name(name)) if name == variable => {}
            other => return Err(lacking(other)),
        }
        if !self.tokens.take_symbol(".") {
            return Err(lacking(self.tokens.next()));
        }
        Ok(self.name()?.to_owned())
    }

    fn condition(&mut self, variable: &str) -> Result<Condition, ApiError> {
        let attribute = self.attribute(variable)?;
        let comparison = match self.tokens.next() {
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol("==")) => Comparison::Equal,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            other => return Err(lacking(other)),
        };
        let value = match self.tokens.next() {
            Some(Token::Variable(name)) => self.variable(name)?,
            Some(Token::Number(text)) => number(text)?,
            other => return Err(lacking(other)),
        };
        Ok(Condition {
            attribute,
            comparison,
            value,
        })
    }

    fn sort(&mut self, variable: &str) -> Result<Sort, ApiError> {
        let attribute = self.attribute(variable)?;
        let descending = self.tokens.take_keyword("DESC");
        if !descending {
            self.tokens.take_keyword("ASC");
        }
        Ok(Sort {
            attribute,
            descending,
        })
    }

    fn limit(&mut self) -> Result<(usize, Option<usize>), ApiError> {
        let first = self.quantity()?;
        match self.tokens.take_symbol(",") {
            true => Ok((first, Some(self.quantity()?))),
            false => Ok((0, Some(first))),
        }
    }

    fn quantity(&mut self) -> Result<usize, ApiError> {
        let (value, shown) = match self.tokens.next() {
            Some(Token::Number(text)) => (number(text)?, text),
            Some(Token::Variable(name)) => (self.variable(name)?, name),
            other => return Err(lacking(other)),
        };
        let quantity = value.as_u64().and_then(|value| usize::try_from(value).ok());
        quantity.ok_or_else(|| ApiError::about(Known::BindParameterType, shown))
    }
}

fn number(text: &str) -> Result<Value, ApiError> {
    serde_json::from_str(text).map_err(|_| lacking(Some(Token::Number(text))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str, variables: Value) -> Result<Query, ApiError> {
        Query::parse(text, variables.as_object().unwrap())
    }

    #[test]
    fn the_whole_form_is_understood() {
        let query = parse(
            "FOR d IN @@collection FILTER d.open_time >= @start && d.open_time < 20\n\
             SORT d.open_time DESC LIMIT 5, @count RETURN d",
            json!({"@collection": "c", "start": 10, "count": 3}),
        );
        let condition = |comparison, value| Condition {
            attribute: "open_time".to_owned(),
            comparison,
            value,
        };
        let expected = Query {
            collection: "c".to_owned(),
            conditions: vec![
                condition(Comparison::GreaterOrEqual, json!(10)),
                condition(Comparison::Less, json!(20)),
            ],
            sort: Some(Sort {
                attribute: "open_time".to_owned(),
                descending: true,
            }),
            offset: 5,
            limit: Some(3),
        };
        assert_eq!(query.unwrap(), expected);
        assert!(
            parse("for x in `odd name` return x", json!({}))
                .unwrap()
                .sort
                .is_none()
        );
    }

    #[test]
    fn anything_else_is_named() {
        for (text, stopped_at) in [
            ("RETURN 1", "`RETURN`"),
            ("FOR d IN c", "the end of the query"),
            ("FOR d IN c RETURN d._key", "`.`"),
            ("FOR d IN c RETURN e", "`e`"),
            ("FOR d IN c COLLECT WITH COUNT INTO n RETURN n", "`COLLECT`"),
            ("FOR d IN c FILTER d.a != 1 RETURN d", "`!`"),
            ("FOR d IN c FILTER d.a == 'x' RETURN d", "`'`"),
            ("FOR d IN c FILTER d.a == 1 OR d.b == 2 RETURN d", "`OR`"),
            ("FOR d IN c FILTER e.a == 1 RETURN d", "`e`"),
            ("FOR d IN c INSERT d INTO e", "`INSERT`"),
        ] {
            let error = parse(text, json!({})).unwrap_err();
            assert_eq!((error.status, error.num), (501, 9), "{text}");
            assert!(
                error
                    .message
                    .ends_with(&format!("it stopped at {stopped_at}")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn bind_variables_are_checked() {
        let query = "FOR d IN @@c FILTER d.a >= @x RETURN d";
        for (variables, num) in [
            (json!({"@c": "c"}), 1551),
            (json!({"x": 1}), 1551),
            (json!({"@c": 7, "x": 1}), 1553),
            (json!({"@c": "c", "x": 1, "y": 2}), 1552),
        ] {
            assert_eq!(
                parse(query, variables.clone()).unwrap_err().num,
                num,
                "{variables}"
            );
        }
    }
}
