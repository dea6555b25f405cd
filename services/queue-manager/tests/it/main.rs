//! queue-manager from outside. One file a subject.

#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod few_descriptors;
mod kubernetes_launcher;
mod process_launcher;
mod rest_api;
mod store;
