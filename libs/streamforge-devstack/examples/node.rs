//! A node for a real API server of Kubernetes: `node NAME PROGRAM FOLDER CERTIFICATE KEY`, with the cluster as `kubectl`
//! finds it. Runs pods whose images are `streamforge/TARGET:VERSION` as processes, until SIGTERM.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use streamforge_devstack::kubernetes::{Node, NodeSettings};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| {
        arguments
            .next()
            .with_context(|| format!("{what} is missing"))
    };
    let settings = NodeSettings {
        name: next("the node's name")?,
        labels: BTreeMap::new(),
        program: PathBuf::from(next("the program streamforge")?),
        images: (
            "streamforge/".to_owned(),
            format!(":{}", env!("CARGO_PKG_VERSION")),
        ),
        folder: PathBuf::from(next("a folder")?),
        tls: Some((
            PathBuf::from(next("a certificate")?),
            PathBuf::from(next("its key")?),
        )),
    };
    let node = Node::start(kube::Client::try_default().await?, settings).await?;
    signal(SignalKind::terminate())?.recv().await;
    node.leave().await
}
