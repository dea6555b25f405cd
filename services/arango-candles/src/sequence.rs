//! The numbers of a partition's records: the rule is the protocol's, shared by all readers.

pub use streamforge_utils::protocol::{Lost, Sequence, Step};
