//! The mistakes of a preconfer, each with its error. Those that cannot be written are in the documentation of
//! [`Preconfer`](p2p_client::Preconfer): another height, parent, window, slasher, domain or list hash.

use std::{future::pending, num::NonZeroU64, sync::Arc};

use futures::future::BoxFuture;
use p2p_client::{
    GuardError, GuardFuture, IgnoreReason, Lookahead, LookaheadError, MemoryGuard, Missing, P2pClient,
    P2pClientError, Promise, Publishing, Rejection, RotatingSchedule, SigningGuard, Slot, StaticSchedule,
    StorageError,
    preconfer::{BlockFields, NotReady, ProposeError},
};
use p2p_storage::{
    MemoryStorage,
    fixtures::{Call, Intercepted},
};
use p2p_types::{B256, Base, UnixSeconds};
use preconfirmation_p2p::sim::SimNetwork;

use super::{
    preconfer::{Does, Overlapping, Stage, Told, at, list, window},
    world::{Block, Node, preconfer, schedule},
};

/// A guard that gives one answer, or none.
#[derive(Debug)]
struct Answers(Option<GuardError>);

impl SigningGuard for Answers {
    fn permit(&self, _: Promise) -> GuardFuture<'_> {
        match self.0.clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => Box::pin(pending()),
        }
    }
}

/// A guard that allows everything, and while it is asked somebody else's block arrives.
struct Overtaken(std::sync::Mutex<Option<P2pClient>>);

impl std::fmt::Debug for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Overtaken")
    }
}

impl SigningGuard for Overtaken {
    fn permit(&self, _: Promise) -> GuardFuture<'_> {
        let client = self.0.lock().unwrap().take();
        Box::pin(async move {
            if let Some(client) = client {
                let block = other_turns_block();
                let publisher = client.publisher();
                let _sent = publisher.publish_block(block.signed, block.txlist).await.unwrap();
            }
            Ok(())
        })
    }
}

/// Block 11 of key 2, in its window that overlaps with ours.
fn other_turns_block() -> Block {
    let other = p2p_fixtures::key(2);
    let mut block = Block::with(None, 1, 100, &other);
    block.signed.commitment.preconf.submission_window_end = p2p_types::U256::from(60_000);
    block.signed = block.signed.commitment.sign(&other, &p2p_fixtures::DOMAIN);
    block
}

struct Failing;

impl Lookahead for Failing {
    fn turn(&self, _: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Err(LookaheadError::Unavailable)
    }
}

async fn electing(schedule: Arc<dyn Lookahead>) -> Stage {
    Stage::of(Told::to(Does::Sign), Arc::<MemoryStorage>::default(), schedule, |_| ()).await
}

async fn guarded(guard: impl SigningGuard) -> Stage {
    Stage::new(|config| config.guard = Some(Arc::new(guard))).await
}

/// What proposing the first block gives.
async fn first(stage: Stage) -> (Stage, ProposeError) {
    let error = stage.propose(100).await.unwrap_err();
    (stage, error)
}

/// What proposing a second block with these fields gives, after one of 30 million gas on L1 block 1,000.
async fn second(fields: BlockFields) -> (Stage, ProposeError) {
    let stage = Stage::new(|_| ()).await;
    let before = BlockFields { gas_limit: 30_000_000, anchor_block_number: 1_000, ..at(100) };
    let _first = stage.preconfer.propose(before, list(1)).await.unwrap();
    stage.signer.does(Does::Fail);
    let error = stage.preconfer.propose(fields, list(2)).await.unwrap_err();
    (stage, error)
}

fn good() -> BlockFields {
    BlockFields { gas_limit: 30_000_000, anchor_block_number: 1_000, ..at(101) }
}

/// What is done, how often that asks the signer, and the error.
type Row =
    (&'static str, usize, fn() -> BoxFuture<'static, (Stage, ProposeError)>, fn(&ProposeError) -> bool);

macro_rules! row {
    ($what:literal, $asked:literal, $error:pat $(if $guard:expr)?, $play:expr) => {
        ($what, $asked, || Box::pin($play), |error| matches!(error, $error $(if $guard)?))
    };
}

use P2pClientError as Refused;
use ProposeError::{Client, ForeignSignature, NotReady as Early, ParentUnknown, Signer, SignerTimeout};

const ROWS: &[Row] = &[
    row!("a client that only follows", 0, Early(NotReady::NotPublisher), async {
        first(Stage::new(|config| config.publishing = Publishing::Disabled).await).await
    }),
    row!("L2 was not heard of", 0, Early(NotReady::NotLive(_)), async {
        let mut stage = Stage::new(|_| ()).await;
        stage.node = Node::start_unsynced(&SimNetwork::new(2), 3).await;
        stage.preconfer = stage.node.client.preconfer(stage.signer.clone());
        first(stage).await
    }),
    row!("the settled block has no hash", 0, ParentUnknown { base: 10 }, async {
        let stage = Stage::new(|_| ()).await;
        stage.node.client.chain().update_head(Base::at(10)).await.unwrap();
        first(stage).await
    }),
    row!("the schedule is not known", 0, Early(NotReady::ScheduleUnknown { .. }), async {
        let later = Slot { signer: preconfer().address(), window: window(60_000, 70_000) };
        first(electing(Arc::new(StaticSchedule::new(vec![later]).unwrap())).await).await
    }),
    row!("the schedule fails", 0, Early(NotReady::Lookahead(LookaheadError::Unavailable)), async {
        first(electing(Arc::new(Failing)).await).await
    }),
    row!("another's turn", 0, Early(NotReady::NotMyTurn { next: Some(next), .. }) if *next == window(100_000, 199_999), async {
        let operators = vec![p2p_fixtures::key(2).address(), preconfer().address()];
        let seconds = NonZeroU64::new(100_000).unwrap();
        first(electing(Arc::new(RotatingSchedule::new(operators, UnixSeconds::new(0), seconds).unwrap())).await).await
    }),
    row!("never elected", 0, Early(NotReady::NotMyTurn { next: None, .. }), async {
        let slot = Slot { signer: p2p_fixtures::key(2).address(), window: window(0, 99_999) };
        first(electing(Arc::new(StaticSchedule::new(vec![slot]).unwrap())).await).await
    }),
    row!("the predecessor has not handed over", 0, Early(NotReady::Predecessor { .. }), async {
        first(electing(Arc::new(Overlapping)).await).await
    }),
    row!("a block after the handover", 1, Early(NotReady::HandedOver { .. }), async {
        let stage = Stage::new(|_| ()).await;
        let _over = stage.preconfer.hand_over().await.unwrap();
        first(stage).await
    }),
    row!("a block after a block that hands over", 1, Early(NotReady::HandedOver { .. }), async {
        let stage = Stage::new(|_| ()).await;
        let _over = stage.preconfer.hand_over_with(at(99), list(1)).await.unwrap();
        first(stage).await
    }),
    row!("the client has shut down", 0, Early(NotReady::Client(Refused::Closed)), async {
        let stage = Stage::new(|_| ()).await;
        stage.node.client.shutdown().await.unwrap();
        first(stage).await
    }),
    row!("not after its parent", 1, Client(Refused::Invalid(rule)) if matches!(**rule, Rejection::Block { field: "timestamp", .. }), {
        second(BlockFields { timestamp: UnixSeconds::new(100), ..good() })
    }),
    row!("outside of the window", 1, Client(Refused::Invalid(rule)) if matches!(**rule, Rejection::OutsideWindow { .. }), {
        second(BlockFields { timestamp: UnixSeconds::new(100_000), ..good() })
    }),
    row!("ahead of the clock", 1, Client(Refused::Deferred(Missing::Time(_))), {
        second(BlockFields { timestamp: UnixSeconds::new(50_005), ..good() })
    }),
    row!("far ahead of the clock", 1, Client(Refused::Ignored(IgnoreReason::Early { .. })), {
        second(BlockFields { timestamp: UnixSeconds::new(60_000), ..good() })
    }),
    row!("more gas than may be added", 1, Client(Refused::Invalid(rule)) if matches!(**rule, Rejection::Block { field: "gasLimit", .. }), {
        second(BlockFields { gas_limit: 31_000_000, ..good() })
    }),
    row!("an anchor before its parent's", 1, Client(Refused::Invalid(rule)) if matches!(**rule, Rejection::Block { field: "anchorBlockNumber", .. }), {
        second(BlockFields { anchor_block_number: 999, ..good() })
    }),
    row!("an anchor that is too old", 0, Client(Refused::Invalid(rule)) if matches!(**rule, Rejection::StaleAnchor { .. }), async {
        let stage = Stage::new(|_| ()).await;
        stage.node.client.chain().update_l1_head(1_000_000).await.unwrap();
        first(stage).await
    }),
    row!("a list over the chain's cap", 0, Client(Refused::TxList(_)), async {
        first(Stage::new(|config| config.network.max_txlist_bytes = 99).await).await
    }),
    row!("a second block for a height", 1, Client(Refused::Conflict(_)), async {
        let stage = Stage::new(|_| ()).await;
        stage.signer.does(Does::Fail);
        stage.propose(99).await.unwrap_err();
        first(stage).await
    }),
    row!("another node has promised the height", 0, Client(Refused::Guard(GuardError::Conflict(_))), async {
        let guard = MemoryGuard::default();
        let (window_end, signer) = (UnixSeconds::new(99_999), preconfer().address());
        let promise =
            Promise { window_end, signer, block: 11, hash: B256::ZERO, eop: false, eop_only: false };
        guard.permit(promise).await.unwrap();
        first(guarded(guard).await).await
    }),
    row!("another node leads", 0, Client(Refused::Guard(GuardError::NotLeader { .. })), async {
        first(guarded(Answers(Some(GuardError::NotLeader { leader: None }))).await).await
    }),
    row!("the guard is down", 0, Client(Refused::Guard(GuardError::Unavailable(_))), async {
        first(guarded(Answers(Some(GuardError::Unavailable("it is down".into())))).await).await
    }),
    row!("the guard hangs", 0, Client(Refused::Guard(GuardError::Unavailable(_))), async {
        first(guarded(Answers(None)).await).await
    }),
    row!("the store records nothing", 0, Client(Refused::Storage(_)), async {
        let store = Intercepted::new(Arc::<MemoryStorage>::default(), |call| match call {
            Call::PutPromise => Err(StorageError::NoSpace),
            _ => Ok(()),
        });
        first(Stage::of(Told::to(Does::Sign), Arc::new(store), schedule(), |_| ()).await).await
    }),
    row!("the head has moved", 0, Client(Refused::StaleHead(Some(_))), async {
        let guard = Arc::new(Overtaken(std::sync::Mutex::default()));
        let shared = guard.clone();
        let now = || UnixSeconds::new(60_001);
        let stage = Stage::of(
            Told::to(Does::Sign),
            Arc::<MemoryStorage>::default(),
            Arc::new(Overlapping),
            |config| {
                config.guard = Some(shared);
                config.clock = Arc::new(now);
            },
        )
        .await;
        *guard.0.lock().unwrap() = Some(stage.node.client.clone());
        let error = stage.propose(50_000).await.unwrap_err();
        (stage, error)
    }),
    row!("the signer fails", 1, Signer { block: 11, .. }, async {
        let stage = Stage::new(|_| ()).await;
        stage.signer.does(Does::Fail);
        first(stage).await
    }),
    row!("the signer hangs", 1, SignerTimeout { block: 11, .. }, async {
        let stage = Stage::new(|_| ()).await;
        stage.signer.does(Does::Hang);
        first(stage).await
    }),
    row!("the signer has another key", 1, ForeignSignature { recovered: Some(_), .. }, async {
        let stage = Stage::new(|_| ()).await;
        stage.signer.does(Does::SignWith(p2p_fixtures::key(9)));
        first(stage).await
    }),
    row!("the signer gives no signature", 1, ForeignSignature { recovered: None, .. }, async {
        let stage = Stage::new(|_| ()).await;
        stage.signer.does(Does::Garbage);
        first(stage).await
    }),
];

#[tokio::test(start_paused = true)]
async fn each_mistake_has_its_error_and_costs_no_more_than_the_block() {
    assert!(ROWS.len() >= 20, "{}", ROWS.len());
    for (what, asked, play, expected) in ROWS {
        let (stage, error) = play().await;
        assert!(expected(&error), "{what}: {error:?}");
        assert_eq!(stage.signer.asked(), *asked, "{what}: how often the signer was asked");
        assert!(!error.to_string().is_empty(), "{what}");
    }
}
