//! Which index helps a query, and which part of it has to be read.
//!
//! A helping index has an attribute that the filter fixes or limits, or it has the query's order, or it has all
//! attributes that the query looks at, so that no document is read. Conditions are checked on what is read in any
//! case, so the part that is read may be too large and never too small.
use std::ops::Bound;

use redb::{AccessGuard, Range, StorageError};
use serde_json::Value;

use super::{
    super::super::{
        entry_key,
        tables::{Indexed, ReadEntries},
    },
    Comparison, Condition, Query,
};

pub(super) use super::super::super::entry_key::is_exact;

type Bytes = &'static [u8];
type Entry = (&'static str, &'static [u8]);
type Guards<'a> = (AccessGuard<'a, Bytes>, AccessGuard<'a, Entry>);

/// How an index is read.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    index: usize,
    /// The first entry.
    from: Vec<u8>,
    /// The entry behind the last one; None: all that follow.
    to: Option<Vec<u8>>,
    backwards: bool,
    /// Whether the entries come in the query's order.
    pub(super) is_sorted: bool,
    /// Where among the index's attributes each of the query's stands, if all do.
    pub(super) covering: Option<Vec<Place>>,
}

/// Where a value is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Key,
    Field(usize),
}

impl Plan {
    /// The most useful index; None if none is of use.
    pub(super) fn best<E>(query: &Query, indexes: &[Indexed<E>]) -> Option<Self> {
        let plans = indexes.iter().enumerate().filter_map(|(index, indexed)| {
            let (fixed, plan) = Self::with(query, index, &indexed.fields)?;
            let is_limited = plan.to.is_some() || !plan.from.is_empty();
            let rank = (fixed, is_limited, plan.is_sorted, plan.covering.is_some());
            Some((rank, plan))
        });
        plans.max_by_key(|(rank, _)| *rank).map(|(_, plan)| plan)
    }

    /// How this index would be read, and how many of its attributes are fixed.
    fn with(query: &Query, index: usize, fields: &[String]) -> Option<(usize, Self)> {
        if query.attributes.is_empty() {
            return None;
        }
        let conditions = query.filter.joined();
        let mut prefix = Vec::new();
        let mut fixed = 0;
        while let Some(value) = fields
            .get(fixed)
            .and_then(|field| query.fixed_to(&conditions, field))
        {
            entry_key::push(&mut prefix, value);
            fixed += 1;
        }
        let (mut from, mut to) = (prefix.clone(), entry_key::behind(&prefix));
        for (comparison, value) in query.limits(&conditions, fields.get(fixed)) {
            let mut limit = prefix.clone();
            entry_key::push(&mut limit, value);
            match comparison {
                Comparison::Less | Comparison::LessOrEqual => {
                    let end = entry_key::behind(&limit);
                    to = match (to, end) {
                        (Some(to), Some(end)) => Some(to.min(end)),
                        (to, end) => to.or(end),
                    };
                }
                _ => from = from.max(limit),
            }
        }
        let is_limited = !from.is_empty() || to.is_some();
        let direction = query.direction(&fields[fixed..]);
        let covering = query.covered_by(fields);
        let is_of_use = is_limited || direction.is_some() || covering.is_some();
        let plan = Self {
            index,
            from,
            to,
            backwards: direction == Some(true),
            is_sorted: direction.is_some(),
            covering,
        };
        is_of_use.then_some((fixed, plan))
    }

    pub(super) fn entries<'t, E: ReadEntries>(
        &self,
        indexes: &'t [Indexed<E>],
    ) -> Result<Range<'t, Bytes, Entry>, StorageError> {
        let from = self.from.as_slice();
        // A range that ends before it begins is empty, and redb does not take it.
        let to = match self.to.as_deref() {
            Some(to) => Bound::Excluded(to.max(from)),
            None => Bound::Unbounded,
        };
        let entries = &indexes[self.index].entries;
        entries.range::<&[u8]>((Bound::Included(from), to))
    }

    pub(super) fn next<'t>(
        &self,
        range: &mut Range<'t, Bytes, Entry>,
    ) -> Option<Result<Guards<'t>, StorageError>> {
        if self.backwards {
            range.next_back()
        } else {
            range.next()
        }
    }
}

/// The values at these places of an entry.
pub(super) fn values(
    places: &[Place],
    key: &str,
    indexed: &[u8],
) -> Result<Vec<Value>, serde_json::Error> {
    let mut fields: Vec<Value> = serde_json::from_slice(indexed)?;
    let values = places.iter().map(|place| match place {
        Place::Key => Value::from(key),
        // Each attribute stands in the query once.
        Place::Field(position) => fields[*position].take(),
    });
    Ok(values.collect())
}

impl Query {
    fn fixed_to<'q>(&self, conditions: &[&'q Condition], field: &str) -> Option<&'q Value> {
        conditions.iter().find_map(|condition| match condition {
            Condition::Compare {
                attribute,
                comparison: Comparison::Equal,
                value,
            } if self.attributes[*attribute] == field && is_exact(value) => Some(value),
            _ => None,
        })
    }

    /// What the filter says about the attribute that an index has next.
    fn limits<'q>(
        &self,
        conditions: &[&'q Condition],
        field: Option<&String>,
    ) -> Vec<(Comparison, &'q Value)> {
        let limits = conditions.iter().filter_map(|condition| match condition {
            Condition::Compare {
                comparison: Comparison::Equal | Comparison::NotEqual,
                ..
            } => None,
            Condition::Compare {
                attribute,
                comparison,
                value,
            } if Some(&self.attributes[*attribute]) == field && is_exact(value) => {
                Some((*comparison, value))
            }
            _ => None,
        });
        limits.collect()
    }

    /// Whether entries that are ordered by these attributes have to be read backwards; None if their order is
    /// another one, or if there is none to keep.
    fn direction(&self, fields: &[String]) -> Option<bool> {
        let first = self.sort.first()?;
        let has_order = self.sort.len() <= fields.len()
            && self.sort.iter().zip(fields).all(|(sort, field)| {
                self.attributes[sort.attribute] == *field && sort.descending == first.descending
            });
        has_order.then_some(first.descending)
    }

    fn covered_by(&self, fields: &[String]) -> Option<Vec<Place>> {
        let places = self.attributes.iter().map(|attribute| {
            let position = fields.iter().position(|field| field == attribute);
            match position {
                Some(position) => Some(Place::Field(position)),
                None if attribute == "_key" => Some(Place::Key),
                None => None,
            }
        });
        places.collect()
    }
}

impl Condition {
    /// What must hold in any case.
    fn joined(&self) -> Vec<&Condition> {
        match self {
            Self::All(all) => all.iter().flat_map(Self::joined).collect(),
            other => vec![other],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the plan of a query is like, over indexes of these attributes.
    fn plan(query: &str, indexes: &[&[&str]]) -> Option<(usize, bool, bool, bool)> {
        let text = format!("FOR d IN c {query} RETURN d");
        let variables = json!({});
        let query = Query::parse(&text, variables.as_object().unwrap()).unwrap();
        let indexes: Vec<Indexed<()>> = indexes
            .iter()
            .map(|fields| Indexed {
                fields: fields.iter().map(|&field| field.to_owned()).collect(),
                entries: (),
            })
            .collect();
        let plan = Plan::best(&query, &indexes)?;
        let is_covered = plan.covering.is_some();
        Some((plan.index, plan.to.is_some(), plan.is_sorted, is_covered))
    }

    #[test]
    fn the_most_useful_index_is_read() {
        let indexes: &[&[&str]] = &[&["time", "name", "state"], &["name", "time"]];
        for (query, expected) in [
            ("", None),
            ("FILTER d.other == 1", None),
            ("FILTER d.state == 1", Some((0, false, false, true))),
            (
                "SORT d.time DESC, d.name DESC LIMIT 3",
                Some((0, false, true, true)),
            ),
            ("SORT d.time DESC, d.name", Some((1, false, false, true))),
            (
                "FILTER d.name == 1 SORT d.time",
                Some((1, true, true, true)),
            ),
            (
                "FILTER d.name == 1 SORT d.other",
                Some((1, true, false, false)),
            ),
            (
                "FILTER d.time < 5 AND d.other != 1",
                Some((0, true, false, false)),
            ),
            ("FILTER d.time < 5 OR d.other != 1", None),
            (
                "FILTER (d.time < 5 OR d.state == 1) AND d.time >= 2",
                Some((0, false, false, true)),
            ),
        ] {
            assert_eq!(plan(query, indexes), expected, "{query}");
        }
    }
}
