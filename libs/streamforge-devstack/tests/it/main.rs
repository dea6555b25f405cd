//! The stand-ins as their clients see them, one module a subject.

#![expect(
    clippy::unwrap_used,
    reason = "a test that can't go on fails where it stands"
)]

mod arango;
mod arango_clients;
mod exchange;
