//! One message's way in the traces: a span from its arrival through workers and store to its events.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of tests, which wait with a deadline; of the shared ones not all are needed here"
)]

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    thread::ThreadId,
    time::Duration,
};

use p2p_storage::{DiskConfig, DiskStorage};
use p2p_types::{B256, MessageId, PeerId, SdkEvent, SigningDomain, SigningKey, Topic};
use preconfirmation_p2p::sim::SimNetwork;
use preconfirmation_types::{Container as _, RawTxListGossip, keccak256};
use tokio::time::sleep;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

#[path = "it/world.rs"]
mod world;

use world::{Block, Node, Voice};

/// Fields by name; of one that was recorded again, the last.
#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

#[derive(Debug)]
struct Spanned {
    name: &'static str,
    parent: Option<usize>,
    thread: ThreadId,
    fields: Fields,
}

#[derive(Debug)]
struct Said {
    within: Option<usize>,
    thread: ThreadId,
    fields: Fields,
}

/// All that the client has traced. A span is known by its index here.
#[derive(Debug, Default)]
struct Log {
    spans: Vec<Spanned>,
    said: Vec<Said>,
}

impl Log {
    /// The spans of a name that have these fields.
    fn spans(&self, name: &str, fields: &[(&str, &str)]) -> Vec<usize> {
        let has = |span: &&Spanned| {
            fields.iter().all(|(field, value)| span.fields.0.get(field).is_some_and(|had| had == value))
        };
        let named = self.spans.iter().enumerate().filter(|(_, span)| span.name == name);
        named.filter(|(_, span)| has(span)).map(|(at, _)| at).collect()
    }

    /// Whether a span is another or below it.
    fn is_within(&self, mut span: Option<usize>, ancestor: usize) -> bool {
        while let Some(at) = span {
            if at == ancestor {
                return true;
            }
            span = self.spans[at].parent;
        }
        false
    }

    /// The kinds of events that were told within a span, and on which threads.
    fn told(&self, span: usize) -> Vec<(&str, ThreadId)> {
        let within = self.said.iter().filter(|said| self.is_within(said.within, span));
        within.filter_map(|said| Some((said.fields.0.get("event")?.as_str(), said.thread))).collect()
    }
}

#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Log>>);

/// The index of a span in the log.
struct SpanIndex(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Watch {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent =
            span.parent().and_then(|parent| parent.extensions().get::<SpanIndex>().map(|index| index.0));
        let (mut fields, thread) = (Fields::default(), std::thread::current().id());
        attributes.record(&mut fields);
        let mut log = self.0.lock().unwrap();
        span.extensions_mut().insert(SpanIndex(log.spans.len()));
        log.spans.push(Spanned { name: attributes.metadata().name(), parent, thread, fields });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let index = context.span(id).unwrap().extensions().get::<SpanIndex>().unwrap().0;
        record.record(&mut self.0.lock().unwrap().spans[index].fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context.event_span(event);
        let within = span.and_then(|span| span.extensions().get::<SpanIndex>().map(|index| index.0));
        let (mut fields, thread) = (Fields::default(), std::thread::current().id());
        event.record(&mut fields);
        self.0.lock().unwrap().said.push(Said { within, thread, fields });
    }
}

/// The fields of a message's span.
fn message(
    from: PeerId,
    id: MessageId,
    dedupe: &'static str,
    outcome: &'static str,
) -> Vec<(&'static str, String)> {
    vec![
        ("peer", from.to_string()),
        ("topic", id.topic.label().to_owned()),
        ("hash", id.payload.to_string()),
        ("dedupe", dedupe.to_owned()),
        ("outcome", outcome.to_owned()),
    ]
}

fn of_list(hash: B256) -> MessageId {
    MessageId { topic: Topic::RawTxLists, payload: hash }
}

#[test]
fn a_message_has_one_span_through_workers_and_store_to_its_events() {
    let watch = Watch::default();
    tracing::subscriber::set_global_default(Registry::default().with(watch.clone())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(scenario(&watch));
}

async fn scenario(watch: &Watch) {
    let network = SimNetwork::new(1);
    let folder = tempfile::tempdir().unwrap();
    // On a disk, so that the chain is worked on by another thread than the one that waits.
    let disk = DiskStorage::open(folder.path(), DiskConfig::recommended(SigningDomain::PLACEHOLDER)).unwrap();
    let a = Node::start(&network, 1).await;
    let mut b = Node::with_storage(&network, 2, Arc::new(disk), |_| ()).await;
    b.dial(&a).await;
    b.live().await;
    let chain = Block::chain(2);
    for block in &chain {
        a.publish(block).await;
        b.until(|event| {
            matches!(event, SdkEvent::BlockReady { hash, .. } if *hash == block.hash()).then_some(())
        })
        .await;
    }

    let voice = Voice::start(&network, 11, &[&b]).await;
    let forged = Block::with(Some(&chain[1]), 0, 13, &SigningKey::from_bytes([2; 32]).unwrap());
    voice.publish(Topic::Commitments, forged.signed.to_ssz().into()).await;
    let early = Block::with(Some(&chain[1]), 0, 60_000, &world::preconfer());
    voice.publish(Topic::Commitments, early.signed.to_ssz().into()).await;
    let false_hash = B256::repeat_byte(1);
    let lie = RawTxListGossip { raw_tx_list_hash: false_hash, txlist: vec![1; 9].into() };
    voice.publish(Topic::RawTxLists, lie.to_ssz().into()).await;
    // By now the network has forgotten what the client still knows.
    sleep(Duration::from_secs(121)).await;
    let again = Voice::start(&network, 12, &[&b]).await;
    again.tell(&chain[0]).await;
    sleep(Duration::from_secs(1)).await;
    let [a_id, voice_id, again_id] = [1, 11, 12].map(|key| world::identity(key).public().to_peer_id());
    b.stop().await;
    a.stop().await;

    let log = watch.0.lock().unwrap();
    let one = |name: &str, fields: &[(&str, String)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let found = log.spans(name, &fields);
        assert_eq!(
            found.len(),
            1,
            "{fields:?} in {:#?}",
            log.spans(name, &[]).iter().map(|at| &log.spans[*at].fields).collect::<Vec<_>>()
        );
        found[0]
    };
    for block in &chain {
        let commitment = MessageId::of_commitment(&block.signed.to_ssz());
        let list = of_list(keccak256(&block.txlist));
        let span = one("message", &message(a_id, commitment, "new", "applied"));
        // Both are on their way through workers: whichever comes first waits for the other.
        let list = one("message", &message(a_id, list, "new", "")[..4]);
        let outcome = &log.spans[list].fields.0["outcome"];
        let told = log.told(span);
        let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
        let of_list: Vec<_> = log.told(list).iter().map(|(kind, _)| *kind).collect();
        match outcome.as_str() {
            "held" => assert_eq!((kinds, of_list), (vec!["commitment", "tx_list", "block_ready"], vec![])),
            "stored" => assert_eq!((kinds, of_list), (vec!["commitment"], vec!["tx_list", "block_ready"])),
            other => panic!("{other}"),
        }
        let arrived = log.spans[span].thread;
        assert!(told.iter().all(|(_, thread)| *thread != arrived), "a worker has told it");
        let stores: Vec<_> =
            log.spans("store", &[]).into_iter().filter(|store| log.is_within(Some(*store), span)).collect();
        assert!(!stores.is_empty());
        assert!(stores.iter().all(|store| log.spans[*store].thread != arrived));

        // The node that has published it: the same, in a span of its own.
        let ours = [
            ("topic", commitment.topic.label().to_owned()),
            ("hash", commitment.payload.to_string()),
            ("outcome", "applied".to_owned()),
        ];
        let span = one("publish", &ours);
        assert!(log.told(span).iter().any(|(kind, _)| *kind == "commitment"));
    }
    let of = |block: &Block| MessageId::of_commitment(&block.signed.to_ssz());
    one("message", &message(voice_id, of(&forged), "new", "wrong_signer"));
    one("message", &message(voice_id, of(&early), "new", "early"));
    one("message", &message(voice_id, of_list(false_hash), "new", "hash_mismatch"));
    one("message", &message(again_id, of(&chain[0]), "known", "known"));
}
