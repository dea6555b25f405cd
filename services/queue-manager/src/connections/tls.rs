//! TLS of the server: a certificate and its key from files, which are read again when they change.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslFiletype, SslMethod, select_next_proto};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The only protocol spoken, with its length, as ALPN wants it.
const HTTP_1_1: &[u8] = b"\x08http/1.1";

/// The certificate or its key can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {cause}")]
pub struct TlsError {
    doing: &'static str,
    path: PathBuf,
    cause: String,
}

/// A certificate with its key, as they stand in their files now.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    look_every: Duration,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    acceptor: Arc<SslAcceptor>,
    /// What tells the files from changed ones.
    stamp: Option<[Stamp; 2]>,
    looked: Instant,
}

type Stamp = (u64, i64, i64, u64);

impl Tls {
    /// Reads a PEM chain, the server's own certificate first, and its PEM key.
    ///
    /// # Errors
    /// One can't be read, or the two do not belong together.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::with(certificate, key, LOOK_EVERY)
    }

    /// As [`Self::open`], looking for changes at most so often.
    ///
    /// # Errors
    /// The same.
    pub fn with(certificate: &Path, key: &Path, look_every: Duration) -> Result<Self, TlsError> {
        let stamp = stamps(certificate, key);
        let acceptor = Arc::new(load(certificate, key)?);
        Ok(Self {
            inner: Arc::new(Inner {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
                look_every,
                loaded: Mutex::new(Loaded {
                    acceptor,
                    stamp,
                    looked: Instant::now(),
                }),
            }),
        })
    }

    /// Speaks TLS as the server.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<SslStream<S>, openssl::ssl::Error> {
        let acceptor = self.acceptor();
        let ssl = Ssl::new(acceptor.context())?;
        let mut stream = SslStream::new(ssl, stream)?;
        Pin::new(&mut stream).accept().await?;
        Ok(stream)
    }

    /// With the files as they are; if they are no good, with those before.
    fn acceptor(&self) -> Arc<SslAcceptor> {
        let inner = &self.inner;
        let mut loaded = inner.loaded();
        if loaded.looked.elapsed() >= inner.look_every {
            loaded.looked = Instant::now();
            let stamp = stamps(&inner.certificate, &inner.key);
            if stamp != loaded.stamp {
                // Both are replaced one after the other: until they fit, each look tries again.
                match load(&inner.certificate, &inner.key) {
                    Ok(acceptor) => {
                        tracing::info!("Read the changed TLS certificate");
                        loaded.acceptor = Arc::new(acceptor);
                        loaded.stamp = stamp;
                    }
                    Err(error) => {
                        tracing::error!(%error, "Failed to read the changed TLS certificate; the one before stays");
                    }
                }
            }
        }
        Arc::clone(&loaded.acceptor)
    }
}

impl Inner {
    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().expect("nothing in here panics")
    }
}

fn stamps(certificate: &Path, key: &Path) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
    };
    Some([stamp(certificate)?, stamp(key)?])
}

fn load(certificate: &Path, key: &Path) -> Result<SslAcceptor, TlsError> {
    let failed = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error: openssl::error::ErrorStack| TlsError {
            doing,
            path,
            cause: error.to_string(),
        }
    };
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())
        .map_err(failed("set up TLS for", certificate))?;
    acceptor
        .set_certificate_chain_file(certificate)
        .map_err(failed("read the certificate", certificate))?;
    acceptor
        .set_private_key_file(key, SslFiletype::PEM)
        .map_err(failed("read the key", key))?;
    acceptor
        .check_private_key()
        .map_err(failed("match the certificate with the key", key))?;
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(HTTP_1_1, offered).ok_or(AlpnError::NOACK)
    });
    Ok(acceptor.build())
}
