//! What is measured and counted, and how often the store is asked.

use metrics::with_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use super::*;

/// What a client has recorded, by series and label.
fn recorded(run: impl FnOnce(&mut Rig)) -> Vec<(String, f64)> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let mut rig = Rig::new();
    let (config, metrics) = (MemoryConfig::default(), Arc::new(Metrics::new(true)));
    rig.chain = ChainProcessor::new(rig.store.clone(), rotating(&[1]), &config, false, metrics);
    with_local_recorder(&recorder, || {
        rig.set_base(Base::at(BASE));
        run(&mut rig);
    });
    let values = snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
        let labels: Vec<_> = key.key().labels().map(|label| format!(" {}", label.value())).collect();
        let value = match value {
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Counter(count) => f64::from(u32::try_from(count).unwrap()),
            DebugValue::Histogram(_) => return None,
        };
        Some((format!("{}{}", key.key().name(), labels.concat()), value))
    });
    values.collect()
}

#[test]
fn gauges_tell_what_waits_and_what_is_stored() {
    let values = recorded(|rig| {
        let blocks = chain(5);
        for next in [&blocks[0], &blocks[1], &blocks[2], &blocks[4]] {
            rig.gossip(next);
        }
        rig.gossip(&Preconfirmation { timestamp: U256::from(NOW.get() + 5), ..blocks[3].clone() });
        rig.txlist(1);
        rig.txlist(9);
    });
    let size = |count: u16| f64::from(count);
    let commitments = size(3) * size(u16::try_from(preconfirmation_types::SIGNED_COMMITMENT_BYTES).unwrap());
    for (series, expected) in [
        ("p2p_pending parent", size(1)),
        ("p2p_pending schedule", size(1)),
        ("p2p_pending txlist", size(2)),
        ("p2p_storage_bytes commitments", commitments),
        ("p2p_storage_bytes txlists", size(10)),
    ] {
        assert!(values.contains(&(series.to_owned(), expected)), "{series} {expected}: {values:?}");
    }
    let held = values.iter().find(|(series, _)| series == "p2p_txlists_held_bytes").unwrap().1;
    assert!((size(10)..size(1_000)).contains(&held), "ten bytes, and what keeping them costs: {held}");
}

#[test]
fn what_is_given_up_or_damaged_is_counted() {
    let values = recorded(|rig| {
        rig.gossip(&chain(2)[1]);
        rig.now = rig.chain.next_deadline().unwrap();
        rig.process(vec![Command::Tick]);
        assert_eq!(rig.chain.metrics.counts().dropped, 1);
    });
    assert!(values.contains(&("p2p_client_dropped_total pending_expired".to_owned(), 1.0)), "{values:?}");
    let damaged = recorded(|rig| {
        rig.gossip(&chain(1)[0]);
        let calls = rig.intercepted();
        rig.chain.metrics = Arc::new(Metrics::new(true));
        calls.lock().unwrap().refused = Some((Call::Get, StorageError::Corrupt { what: "a list" }));
        rig.process(vec![Command::Unreadable { hash: list(1).hash() }]);
        assert_eq!(calls.lock().unwrap().count(Call::Discard), 1);
    });
    assert!(damaged.contains(&("p2p_storage_unreadable_total".to_owned(), 1.0)), "{damaged:?}");
}

#[test]
fn a_status_is_told_without_the_store() {
    let mut rig = Rig::new();
    let calls = rig.intercepted();
    let status = p2p_types::HeadSyncStatus::Live { head: None };
    assert_eq!(rig.process(vec![Command::Status(status)]).events, [SdkEvent::Status { status }]);
    assert_eq!(calls.lock().unwrap().made, []);
    rig.gossip(&chain(1)[0]);
    assert_eq!(calls.lock().unwrap().count(Call::Stats), 1, "measured once for each batch");
}

#[test]
fn what_is_stored_already_is_ignored_without_a_write() {
    let mut rig = Rig::new();
    let calls = rig.intercepted();
    let next = chain(1).remove(0);
    for (writes, ignored) in [(1, 0), (1, 1), (1, 2)] {
        rig.gossip(&next);
        assert_eq!(calls.lock().unwrap().count(Call::Apply), writes);
        assert_eq!(rig.chain.metrics.counts().ignored, ignored);
    }
}

#[test]
fn signatures_cost_most_and_a_tick_has_no_estimate() {
    let gossip = |n| {
        let arrived = |_| arrived(&key(1), &chain(1)[0]);
        Command::Gossip((0..n).map(arrived).collect()).micros().unwrap()
    };
    let txlist = VerifiedTxList { txlist: list(1), origin: Origin::Local, verdict: None, span: Span::none() };
    let status = Command::Status(p2p_types::HeadSyncStatus::Live { head: None });
    let [txlist, status] = [Command::TxLists(vec![txlist]), status].map(|command| command.micros().unwrap());
    assert!(gossip(1) > txlist && txlist > status && status > 0);
    assert_eq!(gossip(4), 4 * gossip(1));
    assert_eq!([Command::Tick.micros(), Command::WarmUp.micros()], [None; 2]);
}

#[test]
fn a_block_that_names_its_parent_costs_no_look_up_by_height() {
    let mut rig = Rig::new();
    let calls = rig.intercepted();
    let blocks = chain(3);
    for (next, looks) in blocks.iter().zip([1, 0, 0]) {
        calls.lock().unwrap().made.clear();
        rig.gossip(next);
        assert_eq!(calls.lock().unwrap().count(Call::ByBlock), looks, "only on the base");
    }
}

#[test]
fn old_promises_are_pruned_once_for_each_moment() {
    let mut rig = Rig::new();
    let calls = rig.intercepted();
    let mut tick = |unix| {
        rig.process_at(UnixSeconds::new(unix), vec![Command::Tick]);
        calls.lock().unwrap().count(Call::PrunePromises)
    };
    assert_eq!([1_000_000, 1_000_000, 1_000_001].map(&mut tick), [1, 1, 2]);
}

#[test]
fn a_warm_up_reads_down_to_the_first_window_that_is_over() {
    let mut rig = Rig::new();
    let blocks = chain(3);
    for next in &blocks {
        rig.gossip(next);
    }
    let mut last = arrived(&key(1), &second(BASE + 4, blocks[2].hash(), 4));
    last.arrival = Arrival::Live(SECOND);
    rig.process_at(SECOND, vec![Command::Gossip(vec![last])]);
    assert_eq!(rig.head(), Some(BASE + 4));
    let calls = rig.intercepted();
    let mut read = |unix: UnixSeconds| {
        calls.lock().unwrap().made.clear();
        rig.process_at(unix, vec![Command::WarmUp]);
        calls.lock().unwrap().count(Call::At)
    };
    // Heights 15 and 14, and the first of the window before.
    assert_eq!(read(SECOND), 3);
    // While that was open ten minutes ago, all of it, and the height of the base, where nothing is.
    let ten_minutes = MemoryConfig::default().seen_ttl.as_secs();
    assert_eq!(read(UnixSeconds::new(WINDOW - 1 + ten_minutes)), 6);
    assert_eq!(read(UnixSeconds::new(WINDOW + ten_minutes)), 3);
}
