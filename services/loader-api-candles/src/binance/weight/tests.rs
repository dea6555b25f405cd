//! Never over 90 % of a minute's limit, whoever else uses it. On paused time.

use super::*;

/// A budget of 90 for a minute, 10 s into a minute of the exchange's clock.
fn budget() -> WeightBudget {
    let budget = WeightBudget::default();
    budget.set_clock(TimestampMs(1_722_470_410_000));
    budget.set_limit(100);
    budget
}

async fn spend(budget: &WeightBudget, weight: u32) -> Duration {
    let begun = Instant::now();
    drop(budget.admit(weight, Aim::Data, |_| ()).await.unwrap());
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_spent_minute_is_waited_out_by_the_exchanges_clock() {
    let budget = budget();
    for _ in 0..45 {
        assert_eq!(spend(&budget, 2).await, Duration::ZERO);
    }
    assert_eq!(budget.used(), 90);
    assert_eq!(
        spend(&budget, 2).await.as_millis(),
        (Duration::from_secs(50) + MARGIN).as_millis()
    );
    assert_eq!(budget.used(), 2, "a new minute");
}

#[tokio::test(start_paused = true)]
async fn no_minute_is_overspent_in_a_long_load() {
    let budget = budget();
    let mut minutes = std::collections::BTreeMap::<i64, u32>::new();
    for _ in 0..500 {
        let admission = budget.admit(2, Aim::Data, |_| ()).await.unwrap();
        let minute = budget.state().now_ms().div_euclid(MINUTE_MS);
        *minutes.entry(minute).or_default() += 2;
        drop(admission);
        tokio::time::sleep(Duration::from_millis(330)).await;
    }
    assert!(minutes.values().all(|used| *used <= 90), "{minutes:?}");
    assert!(minutes.len() >= 11, "{minutes:?}");
}

#[tokio::test(start_paused = true)]
async fn what_others_use_behind_the_same_address_counts() {
    let budget = budget();
    budget.admit(2, Aim::Data, |_| ()).await.unwrap().settle(82);
    assert_eq!(budget.used(), 82);
    assert_eq!(spend(&budget, 8).await, Duration::ZERO);
    assert!(spend(&budget, 2).await > Duration::from_secs(49));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_count_of_the_exchange_does_not_lower_ours() {
    let budget = budget();
    spend(&budget, 50).await;
    budget.admit(2, Aim::Data, |_| ()).await.unwrap().settle(2);
    assert_eq!(budget.used(), 52);
}

#[tokio::test(start_paused = true)]
async fn a_request_on_its_way_counts_in_the_minute_that_begins() {
    let budget = budget();
    let on_its_way = budget.admit(20, Aim::Data, |_| ()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(55)).await;
    assert_eq!(budget.used(), 20);
    drop(on_its_way);
    assert_eq!(budget.used(), 20, "it may have been counted in this minute");
}

#[tokio::test(start_paused = true)]
async fn one_retry_after_stops_all_that_follow() {
    let budget = budget();
    budget.close(429, Duration::from_secs(30)).unwrap();
    budget.close(429, Duration::from_secs(5)).unwrap();
    let (one, other) = tokio::join!(spend(&budget, 2), spend(&budget, 2));
    assert_eq!(
        (one.as_secs(), other.as_secs()),
        (30, 30),
        "the longest holds"
    );
    assert_eq!(spend(&budget, 2).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_longer_silence_than_ten_minutes_ends_the_load_and_says_until_when() {
    let budget = budget();
    let error = budget.close(429, Duration::from_secs(3_600)).unwrap_err();
    assert!(!error.may_pass());
    let BinanceError::ComeBackLater { until } = error else {
        panic!("{error}");
    };
    let ahead = until.as_millis() - TimestampMs::now().as_millis();
    assert!((3_590_000..=3_601_000).contains(&ahead), "{ahead}");
    let others = budget.admit(2, Aim::Data, |_| ()).await;
    assert!(
        matches!(others, Err(BinanceError::ComeBackLater { .. })),
        "{others:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_heavier_than_the_limit_goes_alone() {
    let budget = budget();
    budget.set_limit(10);
    assert_eq!(spend(&budget, 20).await, Duration::ZERO);
    assert!(spend(&budget, 20).await > Duration::from_secs(49));
}

/// How long the request that learns the limit waits.
async fn learn(budget: &WeightBudget) -> Duration {
    let begun = Instant::now();
    drop(budget.admit(20, Aim::Limit, |_| ()).await.unwrap());
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_assumed_limit_does_not_hold_back_the_request_that_learns_it() {
    let budget = WeightBudget::default();
    budget.set_clock(TimestampMs(1_722_470_410_000));
    budget
        .admit(1, Aim::Data, |_| ())
        .await
        .unwrap()
        .settle(3_001);
    assert_eq!(learn(&budget).await, Duration::ZERO);
    assert!(spend(&budget, 2).await > Duration::from_secs(49));

    let budget = WeightBudget::default();
    budget.set_clock(TimestampMs(1_722_470_410_000));
    budget
        .admit(1, Aim::Data, |_| ())
        .await
        .unwrap()
        .settle(u32::MAX);
    assert_eq!(
        learn(&budget).await,
        Duration::ZERO,
        "no count is too high to add to"
    );
    budget.set_limit(6_000);
    assert!(
        learn(&budget).await > Duration::from_secs(49),
        "it is no assumption any more"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_exchange_has_said_holds_back_the_request_that_learns_the_limit() {
    let budget = WeightBudget::default();
    budget.set_clock(TimestampMs(1_722_470_410_000));
    budget.close(429, Duration::from_secs(7)).unwrap();
    assert_eq!(learn(&budget).await.as_secs(), 7);
    budget.spend_minute();
    assert!(learn(&budget).await > Duration::from_secs(42));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_minute_can_be_given_up() {
    let budget = budget();
    budget.spend_minute();
    assert!(spend(&budget, 2).await > Duration::from_secs(49));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_why_and_until_when() {
    let budget = budget();
    let told = std::cell::RefCell::new(Vec::new());
    let on_pause = |pause: Pause| told.borrow_mut().push(pause.cause);
    budget.spend_minute();
    budget.admit(2, Aim::Data, on_pause).await.unwrap();
    budget.close(418, Duration::from_secs(9)).unwrap();
    budget.close(429, Duration::from_secs(1)).unwrap();
    budget.admit(2, Aim::Data, on_pause).await.unwrap();
    assert_eq!(*told.borrow(), [Cause::Weight, Cause::Silence(418)]);
    let pause = |cause| Pause {
        cause,
        until: "2024-08-01T09:30:05Z".parse().unwrap(),
    };
    assert_eq!(
        pause(Cause::Silence(429)).to_string(),
        "waiting for the exchange: 429, until 09:30:05Z"
    );
    assert_eq!(
        pause(Cause::Weight).to_string(),
        "waiting for the exchange: this minute's request weight is used, until 09:30:05Z"
    );
}
