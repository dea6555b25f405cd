//! Starts, watches, stops and heals whole workflows: a REST request becomes names, a topic, a record of state, a command,
//! and one Job per worker.
//!
//! - [`config`]: what it is told by its environment.
//! - [`request`]: what can be asked for, as JSON.
//! - [`targets`]: what can be launched.
//! - [`plan`]: a workflow as it is to be run: names, workers, their environment.
//! - [`flows`]: workflows that the operator has written down.
//! - [`launcher`]: runs Jobs, and says what became of them.
//! - [`state`]: what is known of a workflow, and how events change it.
//! - [`heal`]: joins that with its Jobs, and says what to do.
//! - [`admission`]: which workflow may start, which waits.
//! - [`store`]: what is kept in ArangoDB.
//! - [`routes`]: the API over HTTP, with [`envelope`], [`error`] and [`extract`]; what it calls is [`service`], with
//!   [`view`] and [`symbols`]; what surrounds it: [`auth`], [`origin`], [`limits`], [`audit`], [`observe`].
//! - [`connections`]: serves that, bounded in number and time; [`descriptors`]: how many connections this process can bear.
//! - [`live`]: tells of changes. [`readiness`], [`metrics`]: how a replica is watched.
//! - [`feed`]: queue-events, from where state was last stored.
//! - [`conductor`]: keeps every workflow going; [`leading`]: one replica at a time.
//! - [`server`]: puts all of it together.

pub mod admission;
pub mod audit;
pub mod auth;
pub mod conductor;
pub mod config;
pub mod connections;
pub mod descriptors;
pub mod envelope;
pub mod error;
pub mod extract;
pub mod feed;
pub mod flows;
pub mod heal;
pub mod launcher;
pub mod leading;
pub mod limits;
pub mod live;
pub mod metrics;
pub mod observe;
pub mod origin;
pub mod plan;
pub mod readiness;
pub mod request;
pub mod routes;
pub mod server;
pub mod service;
pub mod state;
pub mod store;
pub mod symbols;
pub mod targets;
pub mod view;

use streamforge_utils::{config::process_vars, worker::block_on};

/// Name of the service, in logs, metrics and client ids.
pub const SERVICE: &str = "queue-manager";

/// Runs the program with these arguments, its name first: the server, or the shim of a Job.
pub fn run(args: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    use launcher::process::shim;
    if args.get(1).is_some_and(|mode| mode == shim::MODE) {
        return shim::run(args.into_iter().skip(2));
    }
    block_on(server::run(args, process_vars()))
}
