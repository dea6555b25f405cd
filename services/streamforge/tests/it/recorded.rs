//! What Binance really sent, loaded whole.

use serde_json::Value;
use streamforge_devstack::{
    exchange::{Exchange, Recording},
    recordings::recordings_dir,
};
use streamforge_utils::protocol::Interval;

use crate::flow::{Flow, LOADER, Plan, WRITER};

pub(crate) const PAGES: [&str; 2] = [
    "rest/klines_BTCUSDT_1h_start1588280400000_end1591880400000_limit1000.json",
    "rest/klines_BTCUSDT_1h_start1591880400000_end1593572400000_limit1000_GAP.json",
];
pub(crate) const RANGE: &str = "2020-04-30T21:00:00Z/2020-07-01T04:00:00Z";

#[tokio::test]
async fn the_hours_around_a_real_gap() {
    let Some(folder) = recordings_dir() else {
        return;
    };
    let files = PAGES.map(|page| folder.join(page));
    let recording = Recording::from_files("BTCUSDT", Interval::Hour1, &files).unwrap();
    let flow = Flow::start(Plan {
        symbol: "BTCUSDT",
        interval: Interval::Hour1,
        range: RANGE,
        partitions: 1,
        exchange: Exchange::builder().recording(recording),
        stalls: false,
    })
    .await;
    let (loader, writer) = (flow.loader(), flow.writer());
    loader.ends_with(0).await;
    writer.ends_with(0).await;
    flow.assert_complete().await;
    let ending = flow.ending(LOADER).await;
    assert_eq!(
        (
            ending.records.written,
            ending.records.missing,
            ending.records.total
        ),
        (1_468, 3, Some(1_471))
    );
    assert_eq!(
        ending.message,
        "1468 candles, 3 missing in 1 gap: 2020-06-28T02:00Z to 05:00Z"
    );
    assert_eq!(ending.gaps.unwrap().len(), 1);
    assert_eq!(flow.ending(WRITER).await.records.written, 1_468);

    // The documents are the files, read here by other means than the exchange's.
    let stored = flow.stored();
    let mut rows = 0;
    for file in &files {
        let page: Vec<Vec<Value>> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for row in page {
            let document = &stored[&format!("BTCUSDT_1h_{}", row[0])];
            for (column, field) in [
                (1, "open"),
                (2, "high"),
                (3, "low"),
                (4, "close"),
                (5, "volume"),
                (7, "quote_asset_volume"),
            ] {
                let sent: f64 = row[column].as_str().unwrap().parse().unwrap();
                assert_eq!(
                    document[field].as_f64(),
                    Some(sent),
                    "{field} of {}",
                    row[0]
                );
            }
            rows += 1;
        }
    }
    assert_eq!(rows, 1_468);
}
