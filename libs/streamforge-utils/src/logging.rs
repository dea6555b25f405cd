//! Where log lines go: stderr, as text on a terminal and as JSON elsewhere.

mod bounded;

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

pub use bounded::TextFields;
use bounded::{JsonFields, JsonLine};

use crate::config::{LogFormat, OpsConfig};

/// Starts logging for this process. Each field is cut to 1,000 characters. A second call changes nothing. Colour is used on
/// a terminal only, and not if `no_color` says that `NO_COLOR` is set (<https://no-color.org>).
pub fn init(ops: &OpsConfig, no_color: bool) {
    let filter = ops
        .log_level
        .parse::<Targets>()
        .unwrap_or_else(|_| Targets::new().with_default(tracing::Level::INFO));
    let terminal = stderr().is_terminal();
    let format = ops.log_format.unwrap_or(if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    });
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .fmt_fields(TextFields)
                .with_writer(stderr)
                .with_ansi(terminal && !no_color);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .fmt_fields(JsonFields)
                .event_format(JsonLine)
                .with_writer(stderr);
            registry.with(layer).try_init()
        }
    };
    if started.is_err() {
        tracing::debug!("Logging was started before");
    }
}
