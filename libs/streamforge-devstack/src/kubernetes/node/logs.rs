//! Serves logs, as the API server asks a kubelet for them.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, pin::Pin, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;
use tokio_util::task::AbortOnDropHandle;

/// The port, until the handle is dropped.
pub(super) async fn serve(
    folder: PathBuf,
    tls: Option<(PathBuf, PathBuf)>,
) -> anyhow::Result<(u16, AbortOnDropHandle<()>)> {
    let routes = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(log))
        .with_state(folder);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let port = listener.local_addr()?.port();
    let task = match tls {
        Some((certificate, key)) => {
            let listener = Secure::of(listener, &certificate, &key)?;
            tokio::spawn(run(axum::serve(listener, routes).into_future()))
        }
        None => tokio::spawn(run(axum::serve(listener, routes).into_future())),
    };
    Ok((port, AbortOnDropHandle::new(task)))
}

async fn run(serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "A node serves no logs any more");
    }
}

/// Where a pod's log is.
pub(super) fn path(folder: &std::path::Path, namespace: &str, pod: &str) -> PathBuf {
    folder.join(format!("{namespace}_{pod}.log"))
}

async fn log(
    State(folder): State<PathBuf>,
    Path((namespace, pod, _)): Path<(String, String, String)>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    if [&namespace, &pod].iter().any(|name| name.contains('/')) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Ok(text) = std::fs::read(path(&folder, &namespace, &pod)) else {
        return (StatusCode::NOT_FOUND, "no log").into_response();
    };
    let number = |name: &str| parameters.get(name)?.parse::<usize>().ok();
    part(&text, number("tailLines"), number("limitBytes"))
        .to_vec()
        .into_response()
}

/// As a kubelet does: it goes to where the last lines begin, and reads from there up to the limit, so that of too long an
/// end the newest lines are cut.
pub(in crate::kubernetes) fn part(
    text: &[u8],
    lines: Option<usize>,
    limit: Option<usize>,
) -> &[u8] {
    let text = tail(text, lines.unwrap_or(usize::MAX));
    &text[..limit.unwrap_or(usize::MAX).min(text.len())]
}

/// Its last lines.
pub(super) fn tail(text: &[u8], lines: usize) -> &[u8] {
    let ended = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = ended.iter().enumerate().rev();
    let mut breaks = breaks.filter(|(_, byte)| **byte == b'\n');
    match lines.checked_sub(1).and_then(|lines| breaks.nth(lines)) {
        Some((at, _)) => &text[at + 1..],
        None if lines == 0 => &[],
        None => text,
    }
}

/// Takes connections over TLS.
struct Secure {
    listener: TcpListener,
    acceptor: SslAcceptor,
}

impl Secure {
    fn of(
        listener: TcpListener,
        certificate: &std::path::Path,
        key: &std::path::Path,
    ) -> anyhow::Result<Self> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        acceptor.set_certificate_chain_file(certificate)?;
        acceptor.set_private_key_file(key, SslFiletype::PEM)?;
        Ok(Self {
            listener,
            acceptor: acceptor.build(),
        })
    }

    async fn next(&self) -> anyhow::Result<(SslStream<TcpStream>, SocketAddr)> {
        let (stream, address) = self.listener.accept().await?;
        let mut stream = SslStream::new(Ssl::new(self.acceptor.context())?, stream)?;
        Pin::new(&mut stream).accept().await?;
        Ok((stream, address))
    }
}

impl Listener for Secure {
    type Io = SslStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.next().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, "A connection that came to nothing");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_whole_lines() {
        let text = b"one\ntwo\nthree\n";
        for (lines, expected) in [
            (0, ""),
            (1, "three\n"),
            (2, "two\nthree\n"),
            (3, "one\ntwo\nthree\n"),
            (9, "one\ntwo\nthree\n"),
        ] {
            assert_eq!(tail(text, lines), expected.as_bytes(), "{lines}");
        }
        assert_eq!(tail(b"one\ntwo", 1), b"two");
    }
}
