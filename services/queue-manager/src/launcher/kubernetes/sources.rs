//! Where a worker's connections and passwords come from: a ConfigMap, whose keys are all given, and of a Secret only the keys
//! that its target reads.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, EnvFromSource, EnvVar, EnvVarSource, SecretKeySelector,
};

use crate::targets::Target;

/// The name of an object that all targets have in common, and those of targets that have one of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerTarget {
    /// For those that have none of their own.
    pub all: Option<String>,
    /// By target.
    pub own: BTreeMap<String, String>,
}

impl PerTarget {
    /// The same for all targets.
    pub fn of_all(name: &str) -> Self {
        Self {
            all: Some(name.to_owned()),
            own: BTreeMap::new(),
        }
    }

    fn of(&self, target: &str) -> Option<&str> {
        self.own
            .get(target)
            .or(self.all.as_ref())
            .map(String::as_str)
    }
}

/// The ConfigMap of a target.
pub(super) fn config_map(target: &str, names: &PerTarget) -> Option<EnvFromSource> {
    names.of(target).map(|name| EnvFromSource {
        config_map_ref: Some(ConfigMapEnvSource {
            name: name.to_owned(),
            optional: None,
        }),
        ..EnvFromSource::default()
    })
}

/// What a target gets of its Secret. A password that it can't do without must be there, so that a missing Secret is named
/// before its program starts.
pub(super) fn of_secret(target: &str, names: &PerTarget) -> Vec<EnvVar> {
    let (Some(secret), Some(target)) = (names.of(target), Target::find(target)) else {
        return Vec::new();
    };
    let variable = |name: &str, is_optional: bool| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: name.to_owned(),
                optional: is_optional.then_some(true),
            }),
            ..EnvVarSource::default()
        }),
    };
    let all = target.connections().flat_map(|known| {
        // A URL is secret too, since it may hold a password, and stands in the ConfigMap where it does not.
        let is_password = known.secret && known.name.ends_with("PASSWORD");
        let is_needed = known.required && is_password && known.alias.is_none();
        let alias = known.alias.map(|alias| variable(alias, true));
        [Some(variable(known.name, !is_needed)), alias]
    });
    all.flatten().collect()
}
