//! The way to an API server, which can be cut: to ours, or to a real one, whose TLS goes through it.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// Passes connections on, from a free port of loopback. It ends when this is dropped.
pub struct Line {
    pub(super) address: SocketAddr,
    is_away: watch::Sender<bool>,
    /// Cuts all connections when it changes.
    cuts: watch::Sender<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    /// The way to `server`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(server: SocketAddr) -> std::io::Result<Self> {
        let (cuts, cut) = watch::channel(0);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (is_away, away) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !*away.borrow() {
                    let mut cut = cut.clone();
                    cut.mark_unchanged();
                    tokio::spawn(pass_on(client, server, cut));
                }
            }
        });
        Ok(Self {
            address,
            is_away,
            cuts,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Takes no connections, or takes them again.
    pub fn away(&self, is_away: bool) {
        self.is_away.send_replace(is_away);
        self.cut();
    }

    pub(super) fn cuts(&self) -> watch::Sender<u64> {
        self.cuts.clone()
    }
}

async fn pass_on(mut client: TcpStream, server: SocketAddr, mut cut: watch::Receiver<u64>) {
    let passing = async {
        let Ok(mut server) = TcpStream::connect(server).await else {
            return;
        };
        // Either side may break off, which the other sees as the end.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    };
    tokio::select! {
        () = passing => {}
        _ = cut.changed() => {}
    }
}
