//! Pages, and what the hot path allocates.

use std::{
    num::NonZeroU64,
    sync::{Arc, Condvar, Mutex, mpsc},
    thread::{self, available_parallelism},
    time::Duration,
};

use allocation_counter::measure;
use p2p_types::{Preconfirmation, SignedCommitment, U256, UnixSeconds};
use p2p_validation::{
    Admission, Lookahead, LookaheadError, Rejection, RotatingSchedule, Slot, ValidationOutcome, Validator,
};
use preconfirmation_types::{Container, SignatureError};

use crate::world::{GENESIS, LIVE, ON_BASE, WINDOW, config, key, preconf, sign, validator};

fn block(number: u64) -> SignedCommitment {
    sign(Preconfirmation { block_number: U256::from(number), ..preconf() })
}

#[test]
fn a_page_keeps_its_order_and_a_bad_commitment_affects_no_other() {
    let mut page: Vec<_> = (1..=40).map(block).collect();
    page[7].signature[64] = 27;
    page[30].commitment.preconf.submission_window_end = U256::from(GENESIS + WINDOW);
    let answers = validator().authenticate_page(&page);
    assert_eq!(answers.len(), page.len());
    for (index, (answer, signed)) in answers.iter().zip(&page).enumerate() {
        match index {
            7 => assert_eq!(*answer, Err(Rejection::Signature(SignatureError::RecoveryId(27)))),
            30 => assert!(matches!(answer, Err(Rejection::WindowEnd { .. }))),
            _ => assert_eq!(answer.as_ref().unwrap().recovered().signed(), signed),
        }
        assert_eq!(*answer, validator().authenticate(&signed.to_ssz()), "as alone");
    }
    let mut messages: Vec<_> = page.iter().map(Container::to_ssz).collect();
    assert_eq!(validator().authenticate_all(&messages), answers, "as messages");
    messages[7].pop();
    assert!(matches!(validator().authenticate_all(&messages)[7], Err(Rejection::Malformed(_))));
    assert_eq!(validator().authenticate_page(&[]), []);
}

#[test]
fn judging_a_commitment_allocates_nothing_whatever_comes_of_it() {
    let validator = validator();
    let wire = |preconf| sign(preconf).to_ssz();
    let good = wire(preconf());
    let mut forged = good.clone();
    forged[300] ^= 1;
    let mut unsigned = good.clone();
    unsigned[381] = 27;
    let cases = [
        (good.clone(), true),
        (good[..381].to_vec(), false),
        (forged, false),
        (unsigned, false),
        (wire(Preconfirmation { gas_limit: U256::MAX, ..preconf() }), false),
        (wire(Preconfirmation { submission_window_end: U256::from(7), ..preconf() }), false),
    ];
    for (ssz, valid) in cases {
        let mut accepted = false;
        let info = measure(|| {
            accepted = matches!(validator.validate(&ssz, LIVE, &ON_BASE), ValidationOutcome::Accept(_));
        });
        assert_eq!((accepted, info.count_total), (valid, 0));
    }
}

#[test]
fn a_page_allocates_a_few_times_for_many_commitments() {
    let page: Vec<_> = (1..=64).map(block).collect();
    let validator = validator();
    // Its one thread does all the work, where it is counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let info = pool.install(|| {
        drop(validator.authenticate_page(&page));
        measure(|| drop(validator.authenticate_page(&page)))
    });
    // Of each share of 32 the buffer, what it is hashed in and what it is verified in; the lists of shares, the jobs of the
    // pool, the result.
    assert!(info.count_total < 80, "{info:?}");
}

/// A schedule that answers nothing about one second until it is told to.
struct Gate {
    schedule: RotatingSchedule,
    /// How many have asked, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    const SHUT: UnixSeconds = UnixSeconds::new(GENESIS + 7);
    /// Never waited for where all is well.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn wait_for(&self, wanted: impl Fn(&(usize, bool)) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, Self::DEADLINE, |state| !wanted(state));
        assert!(!waited.unwrap().1.timed_out());
    }

    fn change(&self, change: impl FnOnce(&mut (usize, bool))) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }
}

struct Gated(Arc<Gate>);

impl Lookahead for Gated {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        Ok(self.0.schedule.turn(moment))
    }

    fn admissible(&self, timestamp: UnixSeconds, end: UnixSeconds) -> Result<Admission, LookaheadError> {
        if timestamp == Gate::SHUT {
            self.0.change(|(asked, _)| *asked += 1);
            self.0.wait_for(|(_, open)| *open);
        }
        self.0.schedule.admissible(timestamp, end)
    }
}

#[test]
fn gossip_waits_for_no_page() {
    let window = NonZeroU64::new(WINDOW).unwrap();
    let schedule = RotatingSchedule::new(vec![key(1).address()], UnixSeconds::new(GENESIS), window).unwrap();
    let gate = Arc::new(Gate { schedule, state: Mutex::default(), changed: Condvar::new() });
    let validator = Validator::new(config(), Arc::new(Gated(Arc::clone(&gate))));
    let late = Preconfirmation { timestamp: U256::from(Gate::SHUT.get()), ..preconf() };
    let page = vec![sign(late); 64];
    let gossip: Vec<_> = (1..=256).map(|number| block(number).to_ssz()).collect();
    let cores = available_parallelism().unwrap().get();
    thread::scope(|scope| {
        // More than there are threads, so that some pages wait for those before them.
        let pages = vec![(); 2 * cores].into_iter();
        let pages: Vec<_> = pages.map(|()| scope.spawn(|| validator.authenticate_page(&page))).collect();
        gate.wait_for(|(asked, _)| *asked >= cores);
        let (done, judged) = mpsc::channel();
        let (validator, gossip) = (&validator, &gossip);
        scope.spawn(move || {
            let alone = validator.authenticate(&gossip[0]);
            done.send((alone, validator.authenticate_all(gossip))).unwrap();
        });
        let judged = judged.recv_timeout(Gate::DEADLINE / 4);
        gate.change(|(_, open)| *open = true);
        let (alone, all) = judged.expect("gossip has waited for pages");
        assert!(alone.is_ok() && all.iter().all(Result::is_ok));
        for page in pages {
            assert!(page.join().unwrap().iter().all(Result::is_ok));
        }
    });
}
