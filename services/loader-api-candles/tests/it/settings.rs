//! What a topic's own settings mean for a load. They are looked up on a real broker only.

use streamforge_devstack::kafka::Broker;

use crate::rig::Rig;

#[tokio::test]
async fn a_compacted_topic_is_refused_before_the_first_record() {
    for policy in ["compact", "compact,delete"] {
        let rig = Rig::new(|exchange| exchange, &[]).await;
        let Some(rig) = rig.topic_with(&[("cleanup.policy", policy)]).await else {
            return;
        };
        let failure = rig.run().await.failure();
        assert!(!failure.is_retryable());
        let text = failure.message();
        assert!(
            text.contains("cleanup.policy") && text.contains(&rig.topic),
            "{text}"
        );
        assert!(rig.contents().await.messages.is_empty());
    }
}

#[tokio::test]
async fn batches_are_made_to_fit_a_topic_that_takes_small_ones_only() {
    let rig = Rig::new(|exchange| exchange, &[]).await;
    let Some(rig) = rig.topic_with(&[("max.message.bytes", "2000")]).await else {
        return;
    };
    assert_eq!(rig.run().await.done().counts().written, 4_320);
    assert_eq!(rig.contents().await.records.len(), 4_320);
}

#[tokio::test]
async fn a_record_that_does_not_fit_its_topic_names_the_setting() {
    let rig = Rig::new(|exchange| exchange, &[]).await;
    let Some(rig) = rig.topic_with(&[("max.message.bytes", "200")]).await else {
        return;
    };
    let failure = rig.run().await.failure();
    assert!(!failure.is_retryable());
    let text = failure.message();
    assert!(
        text.contains("max.message.bytes is 200") && text.contains(&rig.topic),
        "{text}"
    );
}

#[tokio::test]
async fn without_the_right_to_look_the_load_is_done_all_the_same() {
    let mut rig = Rig::new(|exchange| exchange, &[]).await;
    let Broker::Apache(apache) = &rig.kafka else {
        eprintln!("NOT RUN: this test needs a real broker: run ci/kafka.sh start");
        return;
    };
    let vars = apache.vars_as("user-without-describe-configs").unwrap();
    for name in ["KAFKA_USER", "KAFKA_PASSWORD"] {
        rig.set(name, &vars[name]);
    }
    assert_eq!(rig.run().await.done().counts().written, 4_320);
}
