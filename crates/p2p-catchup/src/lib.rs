//! Catch-up: a sans-IO state machine that brings a preconfirmation node from any gap to live, from several peers.
//!
//! [`CatchUp`] does no IO: the caller feeds it what happened and when ([`Input`]) and takes what to do ([`Output`]) and when to
//! come back. It has no runtime, no socket, no clock, and no randomness but a seed: the same inputs give the same outputs. It
//! builds on `p2p-types` and on the [`Authenticated`](p2p_validation::Authenticated) commitments of `p2p-validation`. The client
//! drives it, and owns the validator, the store and the network.
//!
//! ```
//! use std::time::Instant;
//! use p2p_catchup::{CatchUp, CatchUpConfig, Input, Output, Reply, Request};
//! use p2p_types::{HeadSyncStatus, PeerId};
//!
//! let (now, seed) = (Instant::now(), 7);
//! let mut catch_up = CatchUp::new(CatchUpConfig::recommended(), seed)?;
//! let peer = PeerId::from_bytes(&[0, 4, 1, 2, 3, 4])?;
//!
//! catch_up.handle(now, Input::PeerUp(peer));
//! catch_up.handle(now, Input::Start { base: 41, head: None });
//!
//! // The head of the peer is requested. The response of the network is fed back under the same id.
//! let Some(Output::Send { id, to, request: Request::Head }) = catch_up.poll_output() else {
//!     return Err("a request for the head".into());
//! };
//! assert!(!catch_up.status().is_live());
//! catch_up.handle(now, Input::Reply { id, from: to, reply: Reply::Head { block: 41 } });
//!
//! // The peer has nothing above the base, and neither has this node.
//! assert_eq!(catch_up.poll_output(), Some(Output::Status(HeadSyncStatus::Live { head: None })));
//! assert!(catch_up.next_deadline().is_some(), "heads are requested again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # States
//!
//! | status | meaning | left by |
//! |---|---|---|
//! | `Idle` | no input so far | the first input |
//! | `WaitingForL2` | the L2 execution is not at the on-chain tip | [`Input::Start`] |
//! | `Syncing` | behind, or not sure: heads, pages or transaction lists are in flight, or no peer has confirmed our head | all conditions of *live* hold → `Live`; the last peer disconnects → `Stalled`; something is missing, nothing is in flight and nothing came → `Stalled` |
//! | `Live` | see below | a higher claim, what [`Input::Waiting`] and [`Input::Orphan`] name after `gap_grace`, [`Input::NotStored`], [`Input::TxListMissing`] (of a live block after `txlist_grace`), a head that fell, a claim withdrawn, heads too old → `Syncing` |
//! | `Stalled(NoPeers)` | no peer can be asked: none is connected, or all are excluded | [`Input::PeerUp`], the end of an exclusion → `Syncing` |
//! | `Stalled(WaitingForData)` | every commitment is stored, and no peer has the list of some block; retried indefinitely | as the next |
//! | `Stalled(NothingDelivered)` | something is missing and all peers were asked without success; retried indefinitely, with growing pauses | anything that comes: a block, a list, a peer → `Syncing`; all conditions of *live* hold → `Live` |
//!
//! The node is **live** while all of these hold:
//! - The head reaches every claim that counts, and everything that is missing beyond its grace.
//! - No transaction list and no sibling is missing beyond its grace.
//! - No ancestor search for a claim that counts is running.
//! - A round of heads has ended since heads were invalidated, not longer ago than `head_stale`, with an answer that counts.
//!
//! Heads are invalidated by the start, a reorg, the end of a sync, a claim that is withdrawn, and a peer that disconnects while it
//! has more than this node. A settled base that moves does not invalidate them. A node without peers is not live, as it cannot
//! know; nor is one whose peers tell no heads. That prevents nobody from preconfirming; it only says so.
//!
//! # Waiting commitments
//!
//! The parent that a commitment waits for may be invented by its signer. So it keeps the node from being live only after
//! `gap_grace`, and until `waiting_ttl` is over, heads have been requested since, and no claim that counts reaches the height.
//! That time counts from the first waiting commitment of a signer, and for the highest of all ([`Input::Waiting`]) from when it
//! was first above the head. Raising it, or telling it again when the base moves, does not start it again.
//!
//! Missing siblings are searched for, one at a time and signers in turn: with the first three peers one after the other, then with
//! pauses that grow until something is found. Eight parents of a signer are remembered, and 128 in all; the lowest are kept. A
//! search that takes long yields to another signer's.
//!
//! # Claims
//!
//! A head is a claim. It counts towards the target until its peer fails to deliver. Then requests go to that peer after all
//! others and with growing pauses, until it serves a page that links. One failed promise is forgiven each `exclude_for`.
//!
//! | response | consequence |
//! |---|---|
//! | a page that links | trust; pauses end |
//! | a short page | what it has counts; the claim is lowered to it, and the head requested again |
//! | a page with a gap, another height or an EOP-only commitment in place of a block | the prefix before that counts; the rest is requested from others, and from this peer after a growing pause; no penalty |
//! | nothing usable at the height of its own claim | the claim was one too high (deployed peers count handovers) and counts as one less; after three of these, a claim one above our head does not count |
//! | nothing usable below its own claim | as a gap, and a failed promise |
//! | an empty page below its own claim | the claim is withdrawn; no penalty |
//! | no response | a pause; after three its claims do not count; no penalty |
//! | our own failure: not sent, not validated, an unknown schedule | a pause, then the peer is asked again; it costs the peer nothing |
//! | a page whose first commitment does not link | an ancestor search: earlier pages of the same peer, in steps that double down to the base, while others are asked above; if they never meet our chain, or break off, the claim is dismissed; no penalty |
//! | a page whose first commitment is refused by a rule that does not depend on its parent | as an empty page, and a failed promise if the peer claims more; no ancestor search |
//! | a page that links to a non-canonical block | the branch is followed to the end of the claim, as it may win; if it does not, the claim is dismissed; no penalty |
//! | a list of another hash | reported, a fault |
//! | a page or list that the caller found faulty | reported (unless the network has done so), a fault |
//! | *list not found* | the next peer; when no peer has it, a pause; no penalty |
//! | late, unknown, of another peer, twice | nothing |
//!
//! A *dismissed* claim is no height to reach while its peer repeats it: the branch behind it is stored and loses the fork choice,
//! or its ancestors are not served. A higher or lower claim counts again until its page has shown the same branch. So do all
//! claims whose branches did not link, once a search has found a fork that wins. The pages of a dismissed claim are requested
//! again after a pause of some seconds that grows to half a minute, in case the peer has changed to another branch of the same
//! height; that does not keep the node from being live. After three searches that did not find the ancestors of one signer's
//! blocks, the first page of a further peer with blocks of that signer is enough to dismiss its claim; the search is made all the
//! same.
//!
//! After three failed promises a peer's claims do not count. After three faults it is excluded for `exclude_for`. The record is kept
//! when a peer disconnects and comes back.
//!
//! # Choice of peers
//!
//! A request goes to the peer that claims to have the data and is expected to respond first: by round trips measured on that
//! protocol, by requests in flight to it, and by how often it did not have what was requested. No peer is asked beyond its
//! request slots or its rate limit, so that nothing waits for one peer while another is free. A peer that does not respond
//! gets a growing pause with jitter, and one request at a time until it does; one that fails too often within a window pauses
//! until that is over, even if it responds in between ([`Backoff`]). The page that all others wait for is requested from a second
//! peer after `hedge_after`.
//!
//! Everything in flight, buffered or being stored stays within `buffer_bytes`, however far behind the node is.

mod ancestor_search;
mod backoff;
mod chain;
mod config;
mod context;
mod deadlines;
mod dismissed;
mod heads;
mod imports;
mod machine;
mod message;
mod orphans;
mod page_import;
mod pages;
mod peer;
mod peers;
mod plan;
mod protocol_state;
mod throughput;
mod txlists;
mod waiting;

pub use backoff::Backoff;
pub use config::{CatchUpConfig, CatchUpConfigError};
pub use machine::CatchUp;
pub use message::{Failure, ImportVerdict, Input, Output, Reply, Request, RequestId};
pub use preconfirmation_types::rate_limit::RateLimit;
