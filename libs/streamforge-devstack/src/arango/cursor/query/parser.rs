//! Reads a query: from text and bind variables to what is to be done.
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    super::super::error::{ApiError, Known},
    Comparison, Condition, Query, Sort,
    tokens::{Token, Tokens},
};

pub(super) fn parse(text: &str, variables: &Map<String, Value>) -> Result<Query, ApiError> {
    let mut parser = Parser {
        tokens: Tokens::new(text),
        variables,
        used: BTreeSet::new(),
        attributes: Vec::new(),
    };
    let query = parser.query()?;
    let undeclared = variables.keys().find(|name| !parser.used.contains(*name));
    match undeclared {
        Some(name) => Err(ApiError::about(Known::BindParameterUndeclared, name)),
        None => Ok(query),
    }
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    variables: &'a Map<String, Value>,
    /// The bind variables met so far.
    used: BTreeSet<String>,
    /// The attributes met so far.
    attributes: Vec<String>,
}

/// What the parser does not understand, as the error that says so.
fn lacking(token: Option<Token<'_>>) -> ApiError {
    let token = token.map_or("the end of the query".to_owned(), |token| {
        format!("`{token}`")
    });
    ApiError::lacking(format!(
        "AQL beyond `FOR d IN @@collection FILTER d.open_time >= @start AND (d.state IN @list OR d.x != @y) \
         SORT d.open_time, d.x LIMIT n RETURN d`, or `RETURN KEEP(d, @names)` or `REMOVE d IN @@collection` at its end; it stopped at {token}"
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
            conditions.push(self.any(variable)?);
        }
        let sort = match self.tokens.take_keyword("SORT") {
            true => self.sort(variable)?,
            false => Vec::new(),
        };
        let (offset, limit) = match self.tokens.take_keyword("LIMIT") {
            true => self.limit()?,
            false => (0, None),
        };
        let removes = self.tokens.take_keyword("REMOVE");
        if !removes {
            self.keyword("RETURN")?;
        }
        let kept = match !removes && self.tokens.take_keyword("KEEP") {
            true => Some(self.kept(variable)?),
            false => {
                self.variable_of_row(variable)?;
                None
            }
        };
        if removes {
            self.keyword("IN")?;
            if self.collection()? != collection {
                return Err(ApiError::lacking(
                    "AQL that removes from another collection",
                ));
            }
        }
        match self.tokens.next() {
            None => {}
            rest => return Err(lacking(rest)),
        }
        Ok(Query {
            collection,
            attributes: std::mem::take(&mut self.attributes),
            filter: Condition::All(conditions),
            sort,
            offset,
            limit,
            kept,
            removes,
        })
    }

    fn variable_of_row(&mut self, variable: &str) -> Result<(), ApiError> {
        match self.tokens.next() {
            Some(Token::Name(name)) if name == variable => Ok(()),
            other => Err(lacking(other)),
        }
    }

    /// `(d, @names)`
    fn kept(&mut self, variable: &str) -> Result<Vec<String>, ApiError> {
        self.symbol("(")?;
        self.variable_of_row(variable)?;
        self.symbol(",")?;
        let name = match self.tokens.next() {
            Some(Token::Variable(name)) => name,
            other => return Err(lacking(other)),
        };
        let names = serde_json::from_value(self.variable(name)?)
            .map_err(|_| ApiError::about(Known::BindParameterType, name))?;
        self.symbol(")")?;
        Ok(names)
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), ApiError> {
        match self.tokens.take_symbol(symbol) {
            true => Ok(()),
            false => Err(lacking(self.tokens.next())),
        }
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

    /// The position of `d.name` among the query's attributes.
    fn attribute(&mut self, variable: &str) -> Result<usize, ApiError> {
        match self.tokens.next() {
            Some(Token::Name(name)) if name == variable => {}
            other => return Err(lacking(other)),
        }
        if !self.tokens.take_symbol(".") {
            return Err(lacking(self.tokens.next()));
        }
        let name = self.name()?;
        if ["_id", "_rev"].contains(&name) {
            // They are no attributes of what is stored, and no condition on them may quietly fail.
            return Err(lacking(Some(Token::Name(name))));
        }
        let position = self.attributes.iter().position(|known| known == name);
        Ok(position.unwrap_or_else(|| {
            self.attributes.push(name.to_owned());
            self.attributes.len() - 1
        }))
    }

    fn any(&mut self, variable: &str) -> Result<Condition, ApiError> {
        let mut any = vec![self.all(variable)?];
        while self.tokens.take_keyword("OR") || self.tokens.take_symbol("||") {
            any.push(self.all(variable)?);
        }
        Ok(single(any, Condition::Any))
    }

    fn all(&mut self, variable: &str) -> Result<Condition, ApiError> {
        let mut all = vec![self.condition(variable)?];
        while self.tokens.take_keyword("AND") || self.tokens.take_symbol("&&") {
            all.push(self.condition(variable)?);
        }
        Ok(single(all, Condition::All))
    }

    fn condition(&mut self, variable: &str) -> Result<Condition, ApiError> {
        if self.tokens.take_symbol("(") {
            let condition = self.any(variable)?;
            self.symbol(")")?;
            return Ok(condition);
        }
        let attribute = self.attribute(variable)?;
        let negated = self.tokens.take_keyword("NOT");
        if self.tokens.take_keyword("IN") {
            return self.list(attribute, negated);
        }
        if negated {
            return Err(lacking(self.tokens.next()));
        }
        let comparison = match self.tokens.next() {
            Some(Token::Symbol("<")) => Comparison::Less,
            Some(Token::Symbol("<=")) => Comparison::LessOrEqual,
            Some(Token::Symbol("==")) => Comparison::Equal,
            Some(Token::Symbol("!=")) => Comparison::NotEqual,
            Some(Token::Symbol(">=")) => Comparison::GreaterOrEqual,
            Some(Token::Symbol(">")) => Comparison::Greater,
            other => return Err(lacking(other)),
        };
        let value = match self.tokens.next() {
            Some(Token::Variable(name)) => self.variable(name)?,
            Some(Token::Number(text)) => number(text)?,
            other => return Err(lacking(other)),
        };
        Ok(Condition::Compare {
            attribute,
            comparison,
            value,
        })
    }

    fn list(&mut self, attribute: usize, negated: bool) -> Result<Condition, ApiError> {
        let name = match self.tokens.next() {
            Some(Token::Variable(name)) => name,
            other => return Err(lacking(other)),
        };
        match self.variable(name)? {
            Value::Array(values) => Ok(Condition::OneOf {
                attribute,
                values,
                negated,
            }),
            // ArangoDB warns and goes on as if the list were empty, which nobody means.
            _ => Err(ApiError::about(Known::BindParameterType, name)),
        }
    }

    fn sort(&mut self, variable: &str) -> Result<Vec<Sort>, ApiError> {
        let mut sort = Vec::new();
        loop {
            let attribute = self.attribute(variable)?;
            let descending = self.tokens.take_keyword("DESC");
            if !descending {
                self.tokens.take_keyword("ASC");
            }
            sort.push(Sort {
                attribute,
                descending,
            });
            if !self.tokens.take_symbol(",") {
                return Ok(sort);
            }
        }
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

/// One condition stands for itself.
fn single(mut conditions: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => join(conditions),
    }
}

fn number(text: &str) -> Result<Value, ApiError> {
    serde_json::from_str(text).map_err(|_| lacking(Some(Token::Number(text))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str, variables: Value) -> Result<Query, ApiError> {
        parse(text, variables.as_object().unwrap())
    }

    fn compare(attribute: usize, comparison: Comparison, value: Value) -> Condition {
        Condition::Compare {
            attribute,
            comparison,
            value,
        }
    }

    #[test]
    fn the_whole_form_is_understood() {
        let query = parsed(
            "FOR d IN @@collection FILTER d.open_time >= @start && d.open_time < 20\n\
             FILTER d.state NOT IN @list AND (d.x == 1 OR d.x != 2 && d.state IN @list)\n\
             SORT d.open_time DESC, d._key LIMIT 5, @count RETURN d",
            json!({"@collection": "c", "start": 10, "count": 3, "list": [7]}),
        );
        let one_of = |negated| Condition::OneOf {
            attribute: 1,
            values: vec![json!(7)],
            negated,
        };
        let filter = Condition::All(vec![
            Condition::All(vec![
                compare(0, Comparison::GreaterOrEqual, json!(10)),
                compare(0, Comparison::Less, json!(20)),
            ]),
            Condition::All(vec![
                one_of(true),
                Condition::Any(vec![
                    compare(2, Comparison::Equal, json!(1)),
                    Condition::All(vec![
                        compare(2, Comparison::NotEqual, json!(2)),
                        one_of(false),
                    ]),
                ]),
            ]),
        ]);
        let sort = |attribute, descending| Sort {
            attribute,
            descending,
        };
        let expected = Query {
            collection: "c".to_owned(),
            attributes: ["open_time", "state", "x", "_key"]
                .map(str::to_owned)
                .into(),
            filter,
            sort: vec![sort(0, true), sort(3, false)],
            offset: 5,
            limit: Some(3),
            kept: None,
            removes: false,
        };
        assert_eq!(query.unwrap(), expected);
        let small = parsed("for x in `odd name` return x", json!({})).unwrap();
        assert!(small.sort.is_empty());
        let keeping = parsed(
            "FOR d IN c RETURN KEEP(d, @names)",
            json!({"names": ["_key", "a"]}),
        );
        let names = ["_key", "a"].map(str::to_owned).to_vec();
        assert_eq!(keeping.unwrap().kept, Some(names));
        let removing = parsed("FOR d IN @@c REMOVE d IN @@c", json!({"@c": "c"}));
        assert!(removing.unwrap().removes);
    }

    #[test]
    fn anything_else_is_named() {
        for (text, stopped_at) in [
            ("RETURN 1", "`RETURN`"),
            ("FOR d IN c", "the end of the query"),
            ("FOR d IN c RETURN d._key", "`.`"),
            ("FOR d IN c RETURN e", "`e`"),
            ("FOR d IN c RETURN KEEP(e, @x)", "`e`"),
            ("FOR d IN c RETURN KEEP(d, 1)", "`1`"),
            ("FOR d IN c REMOVE KEEP(d, @x) IN c", "`KEEP`"),
            ("FOR d IN c COLLECT WITH COUNT INTO n RETURN n", "`COLLECT`"),
            ("FOR d IN c FILTER d.a ~ 1 RETURN d", "`~`"),
            ("FOR d IN c FILTER d.a == 'x' RETURN d", "`'`"),
            ("FOR d IN c FILTER d.a.b == 1 RETURN d", "`.`"),
            ("FOR d IN c FILTER d._rev == 1 RETURN d", "`_rev`"),
            ("FOR d IN c FILTER NOT d.a == 1 RETURN d", "`NOT`"),
            ("FOR d IN c FILTER d.a IN [1] RETURN d", "`[`"),
            ("FOR d IN c FILTER (d.a == 1 RETURN d", "`RETURN`"),
            ("FOR d IN c FILTER e.a == 1 RETURN d", "`e`"),
            ("FOR d IN c INSERT d INTO e", "`INSERT`"),
            ("FOR d IN c REMOVE d IN c RETURN OLD", "`RETURN`"),
        ] {
            let error = parsed(text, json!({})).unwrap_err();
            assert_eq!((error.status, error.num), (501, 9), "{text}");
            assert!(
                error
                    .message
                    .ends_with(&format!("it stopped at {stopped_at}")),
                "{error:?}"
            );
        }
        let elsewhere = parsed("FOR d IN c REMOVE d IN e", json!({})).unwrap_err();
        assert_eq!(elsewhere.status, 501);
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
                parsed(query, variables.clone()).unwrap_err().num,
                num,
                "{variables}"
            );
        }
        let no_names = parsed("FOR d IN c RETURN KEEP(d, @x)", json!({"x": [1]}));
        assert_eq!(no_names.unwrap_err().num, 1553);
        let no_list = parsed("FOR d IN c FILTER d.a IN @x RETURN d", json!({"x": 1}));
        assert_eq!(no_list.unwrap_err().num, 1553);
    }
}
