//! The one form of AQL this server understands:
//!
//! ```text
//! FOR d IN @@collection
//!   [FILTER d.status IN @list AND (d.time < @time OR d.time == @time AND d.name != @name)]
//!   [SORT d.time [ASC | DESC], d.name [ASC | DESC]]
//!   [LIMIT [offset,] count]
//!   RETURN d | RETURN KEEP(d, @names) | REMOVE d IN @@collection
//! ```
//!
//! Comparisons are `==`, `!=`, `<`, `<=`, `>`, `>=`, `IN` and `NOT IN`, joined by `AND`, `OR` and parentheses. Any
//! attribute at the top level will do, names may stand where bind variables stand, and numbers where values stand.
//! Everything else is answered with 501 and what it was. How a query is read is in [`parser`], which index helps it
//! in [`plan`].
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    super::{
        error::ApiError,
        record::Record,
        tables::{ReadDocuments, ReadEntries, Tables},
    },
    order,
};

mod parser;
mod plan;
mod tokens;

use plan::Plan;

#[derive(Debug, PartialEq)]
pub(super) struct Query {
    pub(super) collection: String,
    /// All that filter and sort look at; they name them by their position.
    attributes: Vec<String>,
    filter: Condition,
    sort: Vec<Sort>,
    offset: usize,
    limit: Option<usize>,
    /// The attributes that are returned, if not all are.
    pub(super) kept: Option<Vec<String>>,
    /// Whether the documents are removed, not returned.
    pub(super) removes: bool,
}

/// What a document must be like.
#[derive(Debug, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Compare {
        attribute: usize,
        comparison: Comparison,
        value: Value,
    },
    OneOf {
        attribute: usize,
        values: Vec<Value>,
        negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
}

#[derive(Debug, PartialEq)]
struct Sort {
    attribute: usize,
    descending: bool,
}

/// What a query found.
#[derive(Default)]
pub(super) struct Results {
    /// Of the documents to return, in their order.
    pub(super) keys: Vec<String>,
    /// How many documents were looked at.
    pub(super) scanned_full: usize,
    /// How many entries of an index were.
    pub(super) scanned_index: usize,
    /// How many passed the filter, before `LIMIT`. Of those looked at: a full count has to be asked for.
    pub(super) matched: usize,
}

/// A document that passed the filter.
struct Found {
    key: String,
    /// By which it is sorted.
    values: Vec<Value>,
}

impl Query {
    pub(super) fn parse(text: &str, variables: &Map<String, Value>) -> Result<Self, ApiError> {
        parser::parse(text, variables)
    }

    /// Looks for the documents. Without `full_count` it may stop as soon as it has enough.
    pub(super) fn run<D: ReadDocuments, E: ReadEntries>(
        &self,
        tables: &Tables<D, E>,
        full_count: bool,
    ) -> Result<Results, ApiError> {
        if let Some(plan) = Plan::best(self, tables.indexes())
            && let Some(results) = self.read_index(tables, &plan, full_count)?
        {
            return Ok(results);
        }
        let names = self.names();
        let mut results = Results::default();
        let mut found = Vec::new();
        for entry in tables.iter()? {
            let (key, stored) = entry?;
            results.scanned_full += 1;
            let values = Record::decode(stored.value()).pick(key.value(), &names)?;
            found.extend(self.matching(key.value(), values));
        }
        self.sort(&mut found);
        Ok(self.cut(results, found))
    }

    /// None if the index's order is not the query's after all.
    fn read_index<D: ReadDocuments, E: ReadEntries>(
        &self,
        tables: &Tables<D, E>,
        plan: &Plan,
        full_count: bool,
    ) -> Result<Option<Results>, ApiError> {
        let names = self.names();
        let enough = match self.limit {
            Some(limit) if plan.is_sorted && !full_count => self.offset.saturating_add(limit),
            _ => usize::MAX,
        };
        let mut results = Results::default();
        let mut found = Vec::new();
        let mut range = plan.entries(tables.indexes())?;
        while found.len() < enough
            && let Some(entry) = plan.next(&mut range)
        {
            let (_, entry) = entry?;
            let (key, indexed) = entry.value();
            results.scanned_index += 1;
            let values = match &plan.covering {
                Some(positions) => plan::values(positions, key, indexed)?,
                None => {
                    let stored = tables.get(key)?;
                    let stored = stored.ok_or(super::Known::Internal)?;
                    Record::decode(stored.value()).pick(key, &names)?
                }
            };
            let matching = self.matching(key, values);
            let is_known = |found: &Found| found.values.iter().all(plan::is_exact);
            if plan.is_sorted && !matching.as_ref().is_none_or(is_known) {
                return Ok(None);
            }
            found.extend(matching);
        }
        if !plan.is_sorted {
            self.sort(&mut found);
        }
        Ok(Some(self.cut(results, found)))
    }

    fn names(&self) -> Vec<&str> {
        self.attributes.iter().map(String::as_str).collect()
    }

    fn matching(&self, key: &str, values: Vec<Value>) -> Option<Found> {
        self.filter.holds(&values).then(|| Found {
            key: key.to_owned(),
            values: self
                .sort
                .iter()
                .map(|sort| values[sort.attribute].clone())
                .collect(),
        })
    }

    fn sort(&self, found: &mut [Found]) {
        if self.sort.is_empty() {
            return;
        }
        found.sort_by(|left, right| {
            let pairs = left.values.iter().zip(&right.values);
            let mut orders = self.sort.iter().zip(pairs).map(|(sort, (left, right))| {
                let order = order::compare(left, right);
                if sort.descending {
                    order.reverse()
                } else {
                    order
                }
            });
            orders
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
    }

    fn cut(&self, results: Results, found: Vec<Found>) -> Results {
        let matched = found.len();
        let keys = found.into_iter().map(|found| found.key).skip(self.offset);
        Results {
            keys: keys.take(self.limit.unwrap_or(usize::MAX)).collect(),
            matched,
            ..results
        }
    }
}

impl Condition {
    fn holds(&self, values: &[Value]) -> bool {
        match self {
            Self::All(all) => all.iter().all(|condition| condition.holds(values)),
            Self::Any(any) => any.iter().any(|condition| condition.holds(values)),
            Self::Compare {
                attribute,
                comparison,
                value,
            } => comparison.holds(order::compare(&values[*attribute], value)),
            Self::OneOf {
                attribute,
                values: list,
                negated,
            } => {
                let is_equal = |value| order::compare(&values[*attribute], value).is_eq();
                list.iter().any(is_equal) != *negated
            }
        }
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Greater => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests;
