//! What an operator adds to every Job, and to those of one target: a YAML file, read strictly.
//!
//! It can add and it can choose nodes and resources; it can't loosen the security context, nor take our labels.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{RESERVED_LABELS, RESERVED_PREFIXES, is_label_value};

/// The file of overrides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overrides {
    /// For every Job.
    #[serde(default)]
    pub all: Additions,
    /// By the name of a target; what stands here wins, and adds to lists and maps.
    #[serde(default)]
    pub targets: BTreeMap<String, Additions>,
}

/// What is added to a Job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Additions {
    /// Secrets that open the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// When the image is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Taints of nodes that it can stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Labels that its node must have, beside `streamforge-worker`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Which nodes, and beside which pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Priority among pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// Whom it is; it has no token in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// Of the Job and its pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Of the Job and its pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Instead of the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// When a node pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// The node has it.
    Never,
}

/// A file of overrides that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidOverrides {
    /// It can't be read.
    #[error("can't read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what is expected; says where.
    #[error("{0}")]
    Yaml(serde_norway::Error),
    /// Fields that Kubernetes does not know: a typing error that would be passed over in silence.
    #[error("unknown fields: {}", .0.join(", "))]
    UnknownFields(Vec<String>),
    /// A label or annotation that can't be set.
    #[error("{place}: {fault}")]
    Metadata {
        /// Where it stands.
        place: String,
        /// What is wrong.
        fault: &'static str,
    },
}

impl Overrides {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, InvalidOverrides> {
        let text =
            std::fs::read_to_string(path).map_err(|source| InvalidOverrides::Unreadable {
                path: path.display().to_string(),
                source,
            })?;
        Self::parse(&text)
    }

    /// Reads the text of a file. One that is empty overrides nothing.
    pub fn parse(text: &str) -> Result<Self, InvalidOverrides> {
        let raw: Value = serde_norway::from_str(text).map_err(InvalidOverrides::Yaml)?;
        if raw.is_null() {
            return Ok(Self::default());
        }
        let overrides: Self = serde_norway::from_str(text).map_err(InvalidOverrides::Yaml)?;
        // Kubernetes' own types pass over what they do not know: what they did not take is missing when they are written.
        let taken = serde_json::to_value(&overrides).expect("plain data has a JSON form");
        let mut unknown = Vec::new();
        find_unknown(&raw, &taken, "", &mut unknown);
        if !unknown.is_empty() {
            return Err(InvalidOverrides::UnknownFields(unknown));
        }
        overrides.all.check("all")?;
        for (target, additions) in &overrides.targets {
            additions.check(&format!("targets.{target}"))?;
        }
        Ok(overrides)
    }

    /// For Jobs of one target.
    pub(super) fn for_target(&self, target: &str) -> Additions {
        let mut additions = self.all.clone();
        if let Some(own) = self.targets.get(target).cloned() {
            additions.add(own);
        }
        additions
    }
}

impl Additions {
    fn add(&mut self, own: Self) {
        self.image_pull_secrets.extend(own.image_pull_secrets);
        self.tolerations.extend(own.tolerations);
        self.node_selector.extend(own.node_selector);
        self.labels.extend(own.labels);
        self.annotations.extend(own.annotations);
        self.image_pull_policy = own.image_pull_policy.or(self.image_pull_policy);
        self.affinity = own.affinity.or_else(|| self.affinity.take());
        self.priority_class_name = own
            .priority_class_name
            .or_else(|| self.priority_class_name.take());
        self.service_account_name = own
            .service_account_name
            .or_else(|| self.service_account_name.take());
        self.resources = own.resources.or_else(|| self.resources.take());
    }

    fn check(&self, place: &str) -> Result<(), InvalidOverrides> {
        let refused = |kind: &str, key: &str, fault| {
            Err(InvalidOverrides::Metadata {
                place: format!("{place}.{kind}.{key}"),
                fault,
            })
        };
        for (kind, map) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            for key in map.keys() {
                let is_ours = RESERVED_PREFIXES.iter().any(|ours| key.starts_with(ours))
                    || (kind == "labels" && RESERVED_LABELS.contains(&key.as_str()));
                if is_ours {
                    return refused(kind, key, "is set by queue-manager");
                }
                if !is_qualified_name(key) {
                    return refused(kind, key, "is no name that Kubernetes takes");
                }
            }
        }
        for (kind, map) in [
            ("labels", &self.labels),
            ("nodeSelector", &self.node_selector),
        ] {
            for (key, value) in map {
                if !is_label_value(value) {
                    return refused(
                        kind,
                        key,
                        "has a value that is no label, expected at most 63 of a-z A-Z 0-9 . _ -",
                    );
                }
            }
        }
        Ok(())
    }
}

/// `name` or `prefix/name`, as keys of labels and annotations are.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').unwrap_or(("a", key));
    let is_domain = prefix.len() <= 253
        && prefix.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    is_domain && !name.is_empty() && is_label_value(name)
}

/// Collects the paths of what stands in `raw` and not in `taken`.
fn find_unknown(raw: &Value, taken: &Value, path: &str, unknown: &mut Vec<String>) {
    match (raw, taken) {
        (Value::Object(raw), _) => {
            for (key, value) in raw {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match taken.get(key) {
                    Some(taken) => find_unknown(value, taken, &path, unknown),
                    None if is_empty(value) => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(raw), Value::Array(taken)) => {
            for (index, (raw, taken)) in raw.iter().zip(taken).enumerate() {
                find_unknown(raw, taken, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Says nothing, so it may be left out when written.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_target_wins_and_adds() {
        let overrides = Overrides::parse(
            "all:
  imagePullSecrets: [{name: registry}]
  nodeSelector: {zone: a, disk: ssd}
  priorityClassName: low
targets:
  arango-candles:
    imagePullSecrets: [{name: other}]
    nodeSelector: {zone: b}
    priorityClassName: high
    resources: {limits: {memory: 256Mi}}
",
        )
        .unwrap();
        let writer = overrides.for_target("arango-candles");
        assert_eq!(writer.image_pull_secrets.len(), 2);
        assert_eq!(writer.node_selector["zone"], "b");
        assert_eq!(writer.node_selector["disk"], "ssd");
        assert_eq!(writer.priority_class_name.as_deref(), Some("high"));
        let loader = overrides.for_target("loader-api-candles");
        assert_eq!(loader, overrides.all);
        assert_eq!(Overrides::parse("").unwrap(), Overrides::default());
        assert_eq!(
            Overrides::parse("# nothing\n").unwrap(),
            Overrides::default()
        );
    }

    #[test]
    fn the_example_in_the_readme_is_right() {
        let readme = include_str!("../../../README.md");
        let example = readme
            .split("```yaml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let overrides = Overrides::parse(example).unwrap();
        assert!(overrides.targets.contains_key("arango-candles"));
    }

    #[test]
    fn a_typing_error_is_refused_and_named() {
        let cases = [
            ("al: {}", "unknown field `al`"),
            (
                "all: {tolerations: [{key: a, effects: NoSchedule}]}",
                "unknown fields: all.tolerations[0].effects",
            ),
            (
                "targets: {dummy-service: {resources: {limit: {cpu: '1'}}}}",
                "unknown fields: targets.dummy-service.resources.limit",
            ),
            (
                "all: {affinity: {podAntiAffinity: {}, podAffinity: {x: 1}}}",
                "unknown fields: all.affinity.podAffinity.x",
            ),
            (
                "all: {securityContext: {privileged: true}}",
                "unknown field `securityContext`",
            ),
            ("all: {tolerations: 3}", "tolerations"),
            (
                "all: {imagePullPolicy: Sometimes}",
                "imagePullPolicy: unknown variant `Sometimes`",
            ),
            (
                "all: {labels: {queue_id: x}}",
                "all.labels.queue_id: is set by queue-manager",
            ),
            (
                "all: {annotations: {streamforge/run: '9'}}",
                "all.annotations.streamforge/run: is set by queue-manager",
            ),
            (
                "all: {labels: {team: 'a b'}}",
                "all.labels.team: has a value that is no label",
            ),
            (
                "all: {labels: {'a b': c}}",
                "all.labels.a b: is no name that Kubernetes takes",
            ),
            (
                "all: {priorityClassName: a, priorityClassName: b}",
                "duplicate",
            ),
        ];
        for (text, expected) in cases {
            let error = Overrides::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
