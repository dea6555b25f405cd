//! What was measured, as a table or as JSON.

use serde::Serialize;
use streamforge_utils::latency::LatencySummary;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    /// The raw limit of the same run, in the same unit, and what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<(f64, &'static str)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<LatencySummary>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            value,
            unit,
            raw: None,
            latency: None,
        }
    }

    /// The 99th percentile.
    pub(crate) fn latency(what: impl Into<String>, latency: LatencySummary) -> Self {
        Self {
            latency: Some(latency),
            ..Self::new(what, latency.p99_ms, "ms")
        }
    }

    pub(crate) fn beside(self, raw: f64, what: &'static str) -> Self {
        Self {
            raw: Some((raw, what)),
            ..self
        }
    }
}

/// All figures.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    notes: Vec<String>,
    rows: Vec<Row>,
    #[serde(skip)]
    as_json: bool,
}

impl Report {
    pub(crate) fn new(as_json: bool) -> Self {
        Self {
            as_json,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, text: String) {
        eprintln!("{text}");
        self.notes.push(text);
    }

    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &'static str) {
        self.extend([Row::new(what, value, unit)]);
    }

    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            eprintln!("{}: {:.1} {}", row.what, row.value, row.unit);
            self.rows.push(row);
        }
    }

    pub(crate) fn print(&self) {
        if self.as_json {
            let json = serde_json::to_string_pretty(self).expect("figures are JSON");
            println!("{json}");
            return;
        }
        println!("\n{}", self.notes.join("; "));
        println!("\n| what | p99 or value | median | beside | ratio |\n|---|---|---|---|---|");
        for row in &self.rows {
            let median = row.latency.map(|latency| latency.median_ms);
            let mine = median.unwrap_or(row.value);
            let (beside, ratio) = row.raw.map_or_else(Default::default, |(raw, what)| {
                (format!("{what}: {raw:.1}"), format!("{:.2}", mine / raw))
            });
            let median = median.map(|median| format!("{median:.1}"));
            println!(
                "| {} | {:.1} {} | {} | {beside} | {ratio} |",
                row.what,
                row.value,
                row.unit,
                median.unwrap_or_default()
            );
        }
    }
}
