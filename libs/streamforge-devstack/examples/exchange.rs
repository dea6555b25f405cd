//! Runs the stand-in of the exchange until it is interrupted, and prints its URL.
//!
//! Optional argument: the port (default: any that is free). `ci/exchange-clients.py` runs this.

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the URL is what this program is for")]
async fn main() -> anyhow::Result<()> {
    let port = match std::env::args().nth(1) {
        Some(text) => text
            .parse()
            .map_err(|_| anyhow::anyhow!("{text:?} is no port, expected 0 to 65535"))?,
        None => 0,
    };
    let exchange = streamforge_devstack::exchange::Exchange::builder()
        .seed(7)
        .port(port)
        .start()
        .await?;
    println!("{}", exchange.url());
    tokio::signal::ctrl_c().await?;
    exchange.stop().await;
    Ok(())
}
