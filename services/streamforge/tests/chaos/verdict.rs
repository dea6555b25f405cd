//! What has to be true in the end.

use std::collections::BTreeMap;

use rdkafka::message::Message;
use streamforge_devstack::arango::ArangoServer;
use streamforge_utils::protocol::EventKind;

use crate::{
    Args,
    flow::{LOADER, WRITER},
    stage::Stage,
};

pub(crate) async fn check(mut stage: Stage, args: &Args) {
    let folder = stage.arango_folder();
    let builder = ArangoServer::builder().root_password("test");
    stage.flow.arango = builder.in_folder(folder).start().await.unwrap();
    let flow = &stage.flow;

    flow.assert_complete().await;
    println!(
        "the collection is the source, key by key: {} candles",
        flow.stored().len()
    );
    println!("the numbers of the topic's records have no hole, and none is there twice");

    let mut letters: BTreeMap<String, u32> = BTreeMap::new();
    for letter in flow.dead_letters().await {
        let text = String::from_utf8_lossy(letter.payload().unwrap()).into_owned();
        *letters.entry(text).or_default() += 1;
    }
    let put: BTreeMap<_, _> = stage.poison.iter().map(|text| (text.clone(), 1)).collect();
    let found: Vec<_> = letters.keys().collect();
    assert_eq!(found, put.keys().collect::<Vec<_>>(), "dead letters");
    let again: u32 = letters.values().map(|times| times - 1).sum();
    println!(
        "the dead-letter topic holds the {} poisoned records and nothing else ({again} of them again, from a writer that was \
         killed before it committed)",
        put.len()
    );

    // Each instance ended at most once, and said nothing after it: endings() checks that.
    for (service, workers) in [(LOADER, 1), (WRITER, args.writers)] {
        let endings = flow.endings(service).await;
        let finished = endings
            .iter()
            .filter(|ending| ending.event == EventKind::Finished);
        assert_eq!(
            finished.count(),
            usize::try_from(workers).unwrap(),
            "{endings:#?}"
        );
        println!(
            "{service}: {} instances said how they ended, once each; the last of every worker has finished",
            endings.len()
        );
    }
}
