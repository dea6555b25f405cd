//! Log lines whose fields are bounded: a message or a value may quote what came from outside, and of that at most 1,000
//! characters are logged.

use std::{
    error::Error,
    fmt::{self, Debug, Display, Write},
};

use serde::Serialize;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::{RecordFields, VisitOutput},
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{DefaultVisitor, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use crate::text::{cut, formatted};

/// Fields of a line for people, as `tracing-subscriber` writes them, but of each at most 1,000 characters.
#[derive(Debug, Clone, Copy)]
pub struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = DefaultVisitor::new(writer, true);
        fields.record(&mut Bounded(&mut visitor));
        visitor.finish()
    }
}

/// Cuts what it hands on.
struct Bounded<V>(V);

impl<V: Visit> Visit for Bounded<&mut V> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, &cut(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.0
            .record_str(field, &formatted(format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = formatted(format_args!("{value:?}"));
        self.0.record_debug(field, &format_args!("{text}"));
    }
}

/// One JSON object a line: `timestamp`, `level`, the fields of the event, `target`, and with a span `span` and `spans`,
/// the innermost and all of them, outermost first.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonLine;

/// Fields of a span as the inside of a JSON object.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonFields;

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Members::default();
        fields.record(&mut visitor);
        writer.write_str(&visitor.0)
    }
}

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Members::default();
        line.add("timestamp", &timestamp);
        line.add("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.add("target", event.metadata().target());
        let spans: Vec<String> = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| {
                let mut members = Members::default();
                if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                    members.0.push_str(&fields.fields);
                }
                members.add("name", span.name());
                format!("{{{}}}", members.0)
            })
            .collect();
        if let Some(innermost) = spans.last() {
            let _ = write!(
                line.0,
                r#","span":{innermost},"spans":[{}]"#,
                spans.join(",")
            );
        }
        writeln!(writer, "{{{}}}", line.0)
    }
}

/// The inside of a JSON object.
#[derive(Default)]
struct Members(String);

impl Members {
    fn add(&mut self, name: &str, value: impl Serialize) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let (Ok(name), Ok(value)) = (serde_json::to_string(name), serde_json::to_string(&value))
        else {
            return;
        };
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let _ = write!(self.0, "{name}:{value}");
    }

    fn add_text(&mut self, field: &Field, value: impl Display) {
        self.add(field.name(), formatted(format_args!("{value}")));
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), cut(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add_text(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is logged when a broker, an exchange or a record sends half a megabyte.
    fn log_foreign_text() {
        let foreign = "é".repeat(300_000);
        let error = io::Error::other(foreign.clone());
        tracing::warn!(text = foreign, %error, debugged = ?foreign, count = 7_u64, on = true, "Quoted {foreign}");
        let _span = tracing::info_span!("request", route = foreign).entered();
        tracing::info!(r#type = "x", rate = 0.5, "Inside \"a\" span\n");
    }

    fn logged(subscriber: impl Subscriber + Send + Sync, lines: &Lines) -> String {
        tracing::subscriber::with_default(subscriber, log_foreign_text);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_of_json_quotes_a_thousand_characters_of_each_field() {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields)
            .event_format(JsonLine)
            .with_writer(lines.clone());
        let text = logged(tracing_subscriber::registry().with(layer), &lines);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for name in ["text", "error", "debugged", "message"] {
            let value = lines[0][name].as_str().unwrap();
            assert_eq!(value.chars().count(), 1_000, "{name}");
            assert!(value.ends_with('…'), "{name}");
        }
        assert_eq!(
            (&lines[0]["count"], &lines[0]["on"]),
            (&7.into(), &true.into())
        );
        assert_eq!(lines[0]["level"], "WARN");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
        let second = &lines[1];
        assert_eq!(second["message"], "Inside \"a\" span\n");
        assert_eq!(
            (&second["type"], &second["rate"]),
            (&"x".into(), &0.5.into())
        );
        assert_eq!(second["span"]["name"], "request");
        assert_eq!(second["spans"][0], second["span"]);
        let route = second["span"]["route"].as_str().unwrap();
        assert_eq!(route.chars().count(), 1_000);
    }

    #[test]
    fn a_line_for_people_quotes_a_thousand_characters_of_each_field() {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(TextFields)
            .with_ansi(false)
            .with_writer(lines.clone());
        let text = logged(tracing_subscriber::registry().with(layer), &lines);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.chars().count() < 6_000, "{}", text.chars().count());
        assert!(
            text.contains("Quoted é") && text.contains("count=7"),
            "{text}"
        );
    }
}
