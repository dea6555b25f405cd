//! Runs the development ArangoDB by itself until Ctrl-C: `cargo run -p streamforge-devstack --example
//! arango -- [PORT [FOLDER]]`. Prints its URL on one line. The password of `root` is `test`. Without a folder everything is
//! in memory; with one it is there again after a restart, also after a kill.
#![expect(clippy::print_stdout, reason = "the URL is this program's output")]
use anyhow::Context as _;
use streamforge_devstack::arango::ArangoServer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the argument is a port")?,
        None => 0,
    };
    let builder = ArangoServer::builder().root_password("test").port(port);
    let builder = match std::env::args_os().nth(2) {
        Some(folder) => builder.in_folder(folder),
        None => builder.in_memory(),
    };
    let server = builder.start().await?;
    println!("{}", server.url());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}
