//! Runs the development ArangoDB by itself until Ctrl-C: `cargo run -p streamforge-devstack --example
//! arango -- [PORT]`. Prints its URL on one line. The password of `root` is `test`; everything is in memory.
#![expect(clippy::print_stdout, reason = "the URL is this program's output")]
use anyhow::Context as _;
use streamforge_devstack::arango::ArangoServer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the argument is a port")?,
        None => 0,
    };
    let server = ArangoServer::builder()
        .root_password("test")
        .in_memory()
        .port(port)
        .start()
        .await?;
    println!("{}", server.url());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
