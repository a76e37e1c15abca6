//! How many messages peers may ask for again (IWANT). gossipsub copies each message that it is asked for before it looks whether
//! its peer has had it, so a frame of 16 KiB that names one list of 2 MiB seven hundred times would cost it a gigabyte of
//! copies. What is over a limit is not answered; whoever lacks it gets it from others, or by catch-up.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::metrics;

/// For so long ids are counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// Most ids in an IHAVE that is sent, and most that a peer is asked for in a heartbeat. gossipsub remembers each of them for
/// seconds, and looks at all in each heartbeat; and it ends the stream of a peer that sends more than 16 KiB of control messages
/// in a frame, which its own default of 5,000 ids would.
pub(crate) const MAX_IDS: usize = 256;

/// Most ids of one peer in a window: as many as it is offered at a time.
const PER_PEER: usize = MAX_IDS;

/// Of these, the first ones, which others cannot use up.
const RESERVED: usize = 16;

/// Most ids of all peers in a window beyond those.
const SHARED: usize = 4 * PER_PEER;

/// Counts what peers ask for.
#[derive(Debug, Default)]
pub(crate) struct IwantLimit {
    since: Option<Instant>,
    by_peer: HashMap<PeerId, usize>,
    /// Ids of all peers beyond those that each has for itself.
    shared: usize,
}

impl IwantLimit {
    /// Takes out of the control messages of a frame those that ask for more than they may.
    pub(crate) fn apply<C: fmt::Debug>(&mut self, now: Instant, peer: PeerId, controls: &mut Vec<C>) {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        controls.retain(|control| {
            let asked = self.by_peer.get(&peer).copied().unwrap_or_default();
            let reserved = RESERVED.saturating_sub(asked);
            let room = (PER_PEER - asked).min(reserved + SHARED - self.shared);
            let Some(ids) = iwant_ids(control, room) else {
                metrics::dropped("gossip_iwant");
                return false;
            };
            if ids > 0 {
                self.shared += ids.saturating_sub(reserved);
                self.by_peer.insert(peer, asked + ids);
            }
            true
        });
    }
}

/// How many messages a control message asks for; none if these are more than `most`.
///
/// libp2p does not export the type of control messages and hides what is in one, but for its `Debug` form:
/// `IWant(IWant { message_ids: [MessageId(…), …] })`.
fn iwant_ids(control: &impl fmt::Debug, most: usize) -> Option<usize> {
    let mut count = IdCount { is_iwant: None, ids: 0, most };
    let complete = write!(count, "{control:?}").is_ok();
    (complete || count.is_iwant == Some(false)).then_some(count.ids)
}

/// Reads the text of a control message as it is written, no further than it has to.
struct IdCount {
    is_iwant: Option<bool>,
    ids: usize,
    most: usize,
}

impl fmt::Write for IdCount {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !*self.is_iwant.get_or_insert(text == "IWant") {
            return Err(fmt::Error);
        }
        self.ids += usize::from(text.starts_with("MessageId("));
        if self.ids > self.most { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::MessageId;

    use super::*;

    /// As libp2p's own.
    #[derive(Debug, Clone, PartialEq)]
    enum Control {
        IHave(IHave),
        IWant(IWant),
        Graft,
    }

    #[derive(Debug, Clone, PartialEq)]
    struct IHave {
        message_ids: Vec<MessageId>,
    }

    #[derive(Debug, Clone, PartialEq)]
    struct IWant {
        message_ids: Vec<MessageId>,
    }

    fn ids(count: usize) -> Vec<MessageId> {
        vec![MessageId::new(&[7; 20]); count]
    }

    fn iwant(count: usize) -> Control {
        Control::IWant(IWant { message_ids: ids(count) })
    }

    /// How many control messages of a frame are left.
    fn left(limit: &mut IwantLimit, now: Instant, peer: PeerId, mut frame: Vec<Control>) -> usize {
        limit.apply(now, peer, &mut frame);
        frame.len()
    }

    #[test]
    fn only_what_asks_for_messages_is_counted() {
        let ihave = Control::IHave(IHave { message_ids: ids(5000) });
        assert_eq!([iwant_ids(&ihave, 0), iwant_ids(&Control::Graft, 0)], [Some(0); 2]);
        assert_eq!([0, 1, 9, 10].map(|ids| iwant_ids(&iwant(ids), 9)), [Some(0), Some(1), Some(9), None]);
    }

    #[test]
    fn a_peer_and_all_together_may_ask_for_so_much_in_a_second() {
        let (mut limit, now) = (IwantLimit::default(), Instant::now());
        let peers: Vec<_> = std::iter::repeat_with(PeerId::random).take(6).collect();
        let (greedy, others) = peers.split_first().unwrap();
        let frame = vec![iwant(PER_PEER - 1), Control::Graft, iwant(2), iwant(1), iwant(1)];
        assert_eq!(left(&mut limit, now, *greedy, frame), 3, "two of its own are too many");
        let served = others.iter().filter(|peer| left(&mut limit, now, **peer, vec![iwant(PER_PEER)]) == 1);
        assert_eq!(served.count(), 3);
        let rest = vec![Control::Graft, iwant(SHARED - 4 * (PER_PEER - RESERVED)), iwant(RESERVED), iwant(1)];
        assert_eq!(left(&mut limit, now, others[3], rest), 3);
        assert_eq!(left(&mut limit, now, others[4], vec![iwant(RESERVED + 1), iwant(RESERVED), iwant(1)]), 1);
        let later = now + WINDOW;
        assert_eq!(left(&mut limit, later, *greedy, vec![iwant(PER_PEER + 1), iwant(PER_PEER)]), 1);
    }
}
