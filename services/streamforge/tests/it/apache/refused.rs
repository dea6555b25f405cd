//! Clients that a broker refuses: each ends for good, and says what is wrong.

use crate::{
    apache::{apache, real},
    flow::{LOADER, Plan, WRITER},
};

#[tokio::test]
async fn a_password_or_a_certificate_that_is_wrong() {
    let Some(flow) = real(Plan::three_days()).await else {
        return;
    };
    let told = |name| apache(&flow).get(name).unwrap();
    let foreign = told("KAFKA_FOREIGN_CA_PATH");
    // librdkafka says no more of a certificate than that.
    let certificate = "certificate verify failed";
    let cases = [
        (vec![("KAFKA_PASSWORD", "wrong")], "invalid credentials"),
        (vec![("KAFKA_USER", "user-unknown")], "invalid credentials"),
        (vec![("KAFKA_CA_PATH", foreign)], certificate),
        (
            vec![
                ("KAFKA_CA_PATH", told("KAFKA_EXPIRED_CA_PATH")),
                ("KAFKA_BOOTSTRAP_SERVERS", told("KAFKA_EXPIRED_CA_SERVERS")),
            ],
            certificate,
        ),
        (
            vec![(
                "KAFKA_BOOTSTRAP_SERVERS",
                told("KAFKA_EXPIRED_CERT_SERVERS"),
            )],
            certificate,
        ),
        (
            vec![("KAFKA_BOOTSTRAP_SERVERS", told("KAFKA_OTHER_NAME_SERVERS"))],
            certificate,
        ),
    ];
    // All at once: each waits for answers that do not come.
    let mut workers = Vec::new();
    for (changes, said) in &cases {
        for service in [LOADER, WRITER] {
            let what = format!("{service} with {changes:?}");
            workers.push((what, *said, flow.worker(service, changes)));
        }
    }
    for (what, said, worker) in workers {
        let log = worker.log_path();
        worker.ends_with(70).await;
        let log = std::fs::read_to_string(log).unwrap();
        let failed = log.lines().find(|line| line.contains("Failed"));
        assert!(
            failed.is_some_and(|line| line.contains(said)),
            "{what} has not said {said:?} at its end:\n{log}"
        );
    }
}
