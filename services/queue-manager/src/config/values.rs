//! Values that check themselves while they are read.

use std::net::SocketAddr;

use serde::Deserialize;

use crate::{
    launcher::kubernetes::{PerTarget, is_label_value},
    targets::Target,
};

/// Address and port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(SocketAddr);

impl Listen {
    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        self.0.ip().is_loopback()
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text
            .parse()
            .map_err(|_| "no address with a port".to_owned())?;
        Ok(Self(address))
    }
}

/// Patterns of images, in a list with commas: exact, or a prefix with `*` behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Images(Vec<String>);

impl Images {
    /// Each pattern.
    pub fn patterns(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<String> for Images {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let patterns = text.split(',').map(|pattern| pattern.trim().to_owned());
        let patterns: Vec<String> = patterns.collect();
        for pattern in &patterns {
            let plain = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || plain.contains('*') || plain.contains(char::is_whitespace) {
                return Err(format!("{pattern:?} is no pattern of images"));
            }
        }
        Ok(Self(patterns))
    }
}

/// The name of an object in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KubernetesName(String);

impl KubernetesName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KubernetesName {
    type Error = String;

    /// A DNS-1123 label, which is good for all kinds of objects.
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=63).contains(&name.len())
            && name.bytes().all(legal)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits {
            Ok(Self(name))
        } else {
            Err("no name of a Kubernetes object".to_owned())
        }
    }
}

/// A name for all targets, and `target=name` for those with one of their own, in a list with commas.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePerTarget(PerTarget);

impl NamePerTarget {
    /// The names.
    pub fn names(&self) -> &PerTarget {
        &self.0
    }
}

impl TryFrom<String> for NamePerTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut names = PerTarget::default();
        for entry in text.split(',').map(str::trim) {
            let (target, name) = match entry.split_once('=') {
                Some((target, name)) => (Some(target.trim()), name.trim()),
                None => (None, entry),
            };
            let name = KubernetesName::try_from(name.to_owned())?.0;
            let before = match target {
                None => names.all.replace(name),
                Some(target) if Target::find(target).is_none() => {
                    return Err(format!(
                        "{target:?} is no target, known are {}",
                        Target::known()
                    ));
                }
                Some(target) => names.own.insert(target.to_owned(), name),
            };
            if before.is_some() {
                return Err(format!("two names for {}", target.unwrap_or("all targets")));
            }
        }
        Ok(Self(names))
    }
}

/// The value of a label in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LabelValue(String);

impl LabelValue {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LabelValue {
    type Error = String;

    /// Kubernetes also takes an empty one, by which nothing could be told apart.
    fn try_from(value: String) -> Result<Self, Self::Error> {
        if !value.is_empty() && is_label_value(&value) {
            Ok(Self(value))
        } else {
            Err("no value of a label".to_owned())
        }
    }
}

/// A Secret and one of its keys: `name/key`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretKey {
    /// Name of the Secret.
    pub secret: KubernetesName,
    /// Its key.
    pub key: String,
}

impl TryFrom<String> for SecretKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let (secret, key) = text.split_once('/').ok_or("no name/key")?;
        if key.is_empty() || key.len() > 253 || !key.bytes().all(legal) {
            return Err("no key of a Secret".to_owned());
        }
        Ok(Self {
            secret: secret.to_owned().try_into()?,
            key: key.to_owned(),
        })
    }
}
