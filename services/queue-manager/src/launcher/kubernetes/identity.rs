//! What tells our Jobs and pods apart from others, and from each other: the labels they are found by, and the annotations
//! that say which workflow, run and attempt they are of.
//!
//! Labels hold at most 63 characters of a small set, and a queue id may be longer: then its label is its beginning and a
//! hash. Nothing is ever read back from a label; annotations have the full text.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};
use streamforge_utils::protocol::QueueId;

use crate::{SERVICE, launcher::JobSpec};

const QUEUE_ID: &str = "streamforge/queue-id";
const RUN: &str = "streamforge/run";
const ATTEMPT: &str = "streamforge/attempt";
const TELEMETRY_ID: &str = "streamforge/telemetry-id";
/// Which installation made it: its database has the same id.
const INSTALLATION: &str = "streamforge/installation";
const TARGET: &str = "app.kubernetes.io/name";

/// What labels and annotations of ours begin with: operators can't set these.
pub(super) const RESERVED_PREFIXES: [&str; 4] = [
    "streamforge/",
    "app.kubernetes.io/",
    "batch.kubernetes.io/",
    "controller-uid",
];
/// Labels of ours without a prefix.
pub(super) const RESERVED_LABELS: [&str; 6] = [
    "app",
    "queue_id",
    "run",
    "attempt",
    "telemetry_id",
    "job-name",
];

/// Longest value of a label.
const LABEL_MAX: usize = 63;

/// Which Job of which workflow it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) queue_id: QueueId,
    pub(super) run: u32,
    pub(super) attempt: u32,
    pub(super) telemetry_id: String,
}

impl Identity {
    pub(super) fn of(spec: &JobSpec) -> Self {
        Self {
            queue_id: spec.queue_id.clone(),
            run: spec.run,
            attempt: spec.attempt,
            telemetry_id: spec.telemetry_id.clone(),
        }
    }

    /// As a Job or pod says it; None if it does not say all of it, so that it is none of ours.
    pub(super) fn read(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        Some(Self {
            queue_id: annotations.get(QUEUE_ID)?.parse().ok()?,
            run: annotations.get(RUN)?.parse().ok()?,
            attempt: annotations.get(ATTEMPT)?.parse().ok()?,
            telemetry_id: annotations.get(TELEMETRY_ID)?.clone(),
        })
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        [
            (QUEUE_ID, self.queue_id.to_string()),
            (RUN, self.run.to_string()),
            (ATTEMPT, self.attempt.to_string()),
            (TELEMETRY_ID, self.telemetry_id.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// The service that a Job or pod is of, as its label says.
pub(super) fn target(metadata: &ObjectMeta) -> Option<&str> {
    let labels = metadata.labels.as_ref()?;
    labels.get(TARGET).map(String::as_str)
}

/// The installation that a Job or pod is of, if it is another one than `own`. Those of older releases do not say.
pub(super) fn other_installation<'a>(
    metadata: &'a ObjectMeta,
    own: Option<&str>,
) -> Option<&'a str> {
    let found = metadata.labels.as_ref()?.get(INSTALLATION)?;
    own.is_some_and(|own| own != found)
        .then_some(found.as_str())
}

/// The label that says of which installation a Job is.
pub(super) fn installation_label(own: Option<&str>) -> Option<(String, String)> {
    own.map(|own| (INSTALLATION.to_owned(), own.to_owned()))
}

/// Labels of a Job and its pods.
pub(super) fn labels(spec: &JobSpec, instance: &str) -> BTreeMap<String, String> {
    [
        ("app", "streamforge".to_owned()),
        ("queue_id", label_value(spec.queue_id.as_str())),
        ("run", spec.run.to_string()),
        ("attempt", spec.attempt.to_string()),
        ("telemetry_id", label_value(&spec.telemetry_id)),
        (TARGET, label_value(&spec.target)),
        ("app.kubernetes.io/instance", label_value(instance)),
        (
            "app.kubernetes.io/version",
            label_value(version_of(&spec.image)),
        ),
        ("app.kubernetes.io/component", "worker".to_owned()),
        ("app.kubernetes.io/part-of", "streamforge".to_owned()),
        ("app.kubernetes.io/managed-by", SERVICE.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Finds what this installation made: another one in the same namespace has another instance.
pub(super) fn selector(instance: &str) -> String {
    format!(
        "app=streamforge,app.kubernetes.io/managed-by={SERVICE},app.kubernetes.io/instance={}",
        label_value(instance)
    )
}

/// A legal label value: the text itself, or its beginning and a hash where it is too long or has what labels may not have.
pub(super) fn label_value(text: &str) -> String {
    if is_label_value(text) {
        return text.to_owned();
    }
    let hash: String = Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let legal: String = text
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => letter,
            _ => '-',
        })
        .take(LABEL_MAX - 1 - hash.len())
        .collect();
    let legal = legal.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
    if legal.is_empty() {
        hash
    } else {
        format!("{legal}-{hash}")
    }
}

/// Whether Kubernetes takes this text as a label's value.
pub(crate) fn is_label_value(text: &str) -> bool {
    let ends = |letter: Option<u8>| letter.is_none_or(|letter| letter.is_ascii_alphanumeric());
    text.len() <= LABEL_MAX
        && text
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'_' | b'-'))
        && ends(text.bytes().next())
        && ends(text.bytes().last())
}

/// The tag of an image, or the digest of one that has no tag.
fn version_of(image: &str) -> &str {
    let (path, digest) = image.split_once('@').unwrap_or((image, ""));
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.split_once(':') {
        Some((_, tag)) => tag,
        None if digest.is_empty() => "latest",
        None => digest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_legal_and_tell_texts_apart() {
        let long = format!("wf-{}", "a".repeat(125));
        let other = format!("wf-{}b", "a".repeat(124));
        let sha = format!("sha256:{}", "0".repeat(64));
        let cases = [
            "wf-btcusdt-api_candles_1m-20240801-abc123",
            "wf-ends-with-",
            "loader-api-candles__abc123",
            "",
            "-",
            "ä/ö",
            &long,
            &other,
            &sha,
        ];
        for text in cases {
            assert!(is_label_value(&label_value(text)), "{text}");
        }
        assert_eq!(label_value(cases[0]), cases[0]);
        assert_ne!(label_value(&long), label_value(&other));
        assert_eq!(label_value(&long).len(), LABEL_MAX);
        assert!(label_value(&long).starts_with("wf-aaa"));
    }

    #[test]
    fn versions_come_from_images() {
        let cases = [
            ("ghcr.io/x/arango-candles:0.3.0", "0.3.0"),
            ("localhost:5000/arango-candles", "latest"),
            ("arango-candles:1@sha256:ab", "1"),
            ("arango-candles@sha256:ab", "sha256:ab"),
        ];
        for (image, expected) in cases {
            assert_eq!(version_of(image), expected, "{image}");
        }
    }
}
