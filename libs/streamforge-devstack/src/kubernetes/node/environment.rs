//! A container's environment and mounted Secrets, as it asks for them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use kube::{Api, Client, ResourceExt};

/// What it is given, or in a kubelet's words what is missing.
pub(super) async fn of(
    client: &Client,
    pod: &Pod,
    container: &Container,
    folder: &Path,
) -> Result<BTreeMap<String, String>, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut variables = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        if let Some(map) = &source.config_map_ref {
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let found = maps.get(&map.name).await;
            let found = found.map_err(|error| missing("configmap", &map.name, &error))?;
            variables.extend(found.data.unwrap_or_default());
        }
        if let Some(secret) = &source.secret_ref {
            variables.extend(self::secret(client, &namespace, &secret.name).await?);
        }
    }
    for variable in container.env.iter().flatten() {
        let source = variable.value_from.as_ref();
        if let Some(key) = source.and_then(|source| source.secret_key_ref.as_ref()) {
            let is_optional = key.optional == Some(true);
            let value = match self::secret(client, &namespace, &key.name).await {
                Ok(values) => values.get(&key.key).cloned(),
                Err(_) if is_optional => None,
                Err(error) => return Err(error),
            };
            match value {
                Some(value) => {
                    variables.insert(variable.name.clone(), value);
                }
                None if is_optional => {}
                None => {
                    let (name, key) = (&key.name, &key.key);
                    return Err(format!(
                        "couldn't find key {key} in Secret {namespace}/{name}"
                    ));
                }
            }
            continue;
        }
        let value = variable.value.as_deref().unwrap_or_default();
        // The Jobs here refer to no other variable, and write a dollar as two.
        variables.insert(variable.name.clone(), value.replace("$$", "$"));
    }
    for (path, mounted) in mounts(client, &namespace, pod, container, folder).await? {
        for value in variables.values_mut() {
            if value.starts_with(&path) {
                *value = value.replacen(&path, &mounted, 1);
            }
        }
    }
    // There is no disk of its own, so its termination message is a file of the folder.
    if let Some(own) = &container.termination_message_path {
        let file = termination_message(folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| fs::write(&file, ""))
            .map_err(|error| format!("can't make {}: {error}", file.display()))?;
        for value in variables.values_mut().filter(|value| *value == own) {
            *value = file.to_string_lossy().into_owned();
        }
    }
    // As in a pod, where the port is its own.
    if variables.contains_key("METRICS_PORT") {
        variables.insert("METRICS_PORT".to_owned(), "0".to_owned());
    }
    variables.insert("HOSTNAME".to_owned(), pod.name_any());
    Ok(variables)
}

/// Where the program of a pod writes its termination message.
pub(super) fn termination_message(folder: &Path) -> PathBuf {
    folder.join("termination-log")
}

/// Writes what is mounted into a folder, and says which path is which: there is no disk of its own.
async fn mounts(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    container: &Container,
    folder: &Path,
) -> Result<Vec<(String, String)>, String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut mounted = Vec::new();
    for volume in volumes {
        let mount = container.volume_mounts.iter().flatten();
        let Some(mount) = mount.clone().find(|mount| mount.name == volume.name) else {
            continue;
        };
        let Some(source) = &volume.secret else {
            return Err(format!(
                "volume {:?} is of no kind that this node has",
                volume.name
            ));
        };
        let name = source.secret_name.as_deref().unwrap_or_default();
        let values = secret(client, namespace, name).await?;
        let place = folder.join(&volume.name);
        let files = match &source.items {
            None => values,
            Some(items) => items
                .iter()
                .map(|item| {
                    let value = values.get(&item.key).cloned();
                    let lacks = || format!("references non-existent secret key: {}", item.key);
                    Ok((item.path.clone(), value.ok_or_else(lacks)?))
                })
                .collect::<Result<_, String>>()?,
        };
        write(&place, &files).map_err(|error| format!("can't mount {name}: {error}"))?;
        mounted.push((
            mount.mount_path.clone(),
            place.to_string_lossy().into_owned(),
        ));
    }
    Ok(mounted)
}

/// For nobody else's eyes.
fn write(folder: &Path, files: &BTreeMap<String, String>) -> std::io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    for (name, text) in files {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        std::io::Write::write_all(&mut options.open(folder.join(name))?, text.as_bytes())?;
    }
    Ok(())
}

async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = secrets.get(name).await;
    let found = found.map_err(|error| missing("secret", name, &error))?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut values: BTreeMap<String, String> = found
        .data
        .into_iter()
        .flatten()
        .map(|(name, value)| (name, text(&value.0)))
        .collect();
    // As one may write it; a real API server has turned it into data.
    values.extend(found.string_data.unwrap_or_default());
    Ok(values)
}

fn missing(kind: &str, name: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => format!("{kind} \"{name}\" not found"),
        error => format!("failed to read {kind} \"{name}\": {error}"),
    }
}
