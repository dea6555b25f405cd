//! A way between two parts that can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    is_cut: watch::Sender<bool>,
}

impl Proxy {
    /// To `server`, from a free port of loopback.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_cut, seen) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, seen.clone()));
            }
        });
        Self { address, is_cut }
    }

    /// Ends all connections and takes no new ones, or takes them again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

async fn pass_on(mut client: TcpStream, server: SocketAddr, mut is_cut: watch::Receiver<bool>) {
    let passing = async {
        let Ok(mut server) = TcpStream::connect(server).await else {
            return;
        };
        // Either side may break off, which the other sees as the end.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    };
    tokio::select! {
        () = passing => {}
        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
    }
}
