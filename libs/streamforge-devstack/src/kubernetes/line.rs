//! The way to the server, which can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

pub(super) struct Line {
    pub(super) address: SocketAddr,
    is_away: watch::Sender<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    /// From a free port to `server`; all connections end when `cut` changes.
    pub(super) async fn start(
        server: SocketAddr,
        cut: watch::Receiver<u64>,
    ) -> std::io::Result<Self> {
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
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub(super) fn away(&self, is_away: bool) {
        self.is_away.send_replace(is_away);
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
