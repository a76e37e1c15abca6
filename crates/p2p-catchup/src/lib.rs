//! Catch-up: brings a node from any gap to live, from many peers, past liars.
//!
//! [`CatchUp`] is a machine without input or output of its own: it is told what happened and when
//! ([`Input`]), and says what to do ([`Output`]) and when to come back. No runtime, no socket, no clock, no
//! randomness but a seed: the same inputs give the same outputs. It sits on `p2p-types` and on the
//! [`Authenticated`](p2p_validation::Authenticated) commitments of `p2p-validation`; the client drives it
//! and owns the validator, the store and the network.
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
//! // The peer is asked for its head. What the network answers goes back in under the same id.
//! let Some(Output::Send { id, to, request: Request::Head }) = catch_up.poll_output() else {
//!     return Err("a request for the head".into());
//! };
//! assert!(!catch_up.status().is_live());
//! catch_up.handle(now, Input::Reply { id, from: to, reply: Reply::Head { block: 41 } });
//!
//! // It has nothing above the base, and neither have we.
//! assert_eq!(catch_up.poll_output(), Some(Output::Status(HeadSyncStatus::Live { head: None })));
//! assert!(catch_up.next_deadline().is_some(), "heads are asked for again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # States
//!
//! | status | means | left by |
//! |---|---|---|
//! | `Idle` | made, no input so far | the first input |
//! | `WaitingForL2` | the L2 execution is not at the tip | [`Input::Start`] |
//! | `Syncing` | behind, or not sure: heads, pages or transaction lists are on their way, or nobody has confirmed our head | all of *live* holds → `Live`; the last peer goes → `Stalled`; something is missing, nothing is on its way and nothing came → `Stalled` |
//! | `Live` | see below | a higher claim, what [`Input::Waiting`] and [`Input::Orphan`] name after `gap_grace`, [`Input::Seen`], [`Input::TxListWanted`] (of a live block after `txlist_grace`), a head that fell, a claim withdrawn, heads too old → `Syncing` |
//! | `Stalled(NoPeers)` | nobody can be asked: none is connected, or all are left out | [`Input::PeerUp`], a peer whose time out is over → `Syncing` |
//! | `Stalled(WaitingForData)` | every commitment is here, and nobody has the list of some block; retried for ever | as the next |
//! | `Stalled(NothingDelivered)` | something is missing and everybody was asked in vain; retried for ever, with longer and longer pauses | anything that comes: a block, a list, a peer → `Syncing`; all of *live* holds → `Live` |
//!
//! **Live** holds while all of these do: what is applied reaches every claim that counts, and everything
//! that is missing beyond its grace; no transaction list is missing beyond its grace; no sibling is missing beyond its
//! grace; and a round of heads has ended since the last reason for doubt, not longer ago than `head_stale`, in which a
//! peer was heard whose word counts.
//! Reasons for doubt are the start, a reorg, the end of a sync, a withdrawn claim and a peer that left with
//! more than we have. That the settled tip moves is none. A node without peers is not live, as it cannot know; nor is one
//! whose peers answer no heads; that keeps nobody from preconfirming, it only says so.
//!
//! # What waits
//!
//! Commitments that wait for a parent may wait for one that their signer has invented. So they keep the node from being
//! live only from `gap_grace` on, and until `waiting_ttl` is over, heads have been asked since, and no peer whose word
//! counts claims the height. That time is counted from the first of a signer, and, for the level of all that waits
//! ([`Input::Waiting`]), from when it was first above the head: raising it, or telling it again when the base moves,
//! begins nothing anew.
//!
//! Missing siblings are looked for, one at a time and signers in turn: the first three peers one after the other, then
//! with pauses that grow until something is found. Eight parents of a signer are remembered, and 128 in all; the lowest
//! are kept. A search that takes long makes way for another signer's.
//!
//! # Claims
//!
//! A head is a claim. It counts towards the target until its peer fails to deliver; then the peer is asked
//! on, behind the others and with growing pauses, and delivering one page that links wins its word back. One broken
//! promise is forgiven each `leave_out`.
//!
//! | answer | what follows |
//! |---|---|
//! | a page that links | trust; pauses end |
//! | a short page | what it has counts; the claim is lowered to it, and the head asked again |
//! | a page with a gap, another height or an EOP-only commitment in place of a block | what is before that counts; the rest is asked of others, and of this peer after a growing pause; no penalty |
//! | nothing of use at the height of its own claim | the claim was one too high (deployed peers count handovers) and counts as one less; whoever does so three times is not believed one height above ours |
//! | nothing of use below its own claim | as a gap, and a broken promise |
//! | an empty page below its own claim | the claim is withdrawn; no penalty |
//! | no answer | a pause; after three its claims do not count; no penalty |
//! | our own failure: not sent, not judged, an unknown schedule | a pause, and the peer is asked again; it costs the peer nothing |
//! | a page whose first commitment does not link | earlier pages of the same peer, in doubling steps down to the base, while others are asked above; if they never meet ours, or break off, the claim is dismissed; no penalty |
//! | a page whose first commitment a rule refuses whatever its parent is | as an empty page, and a broken promise if the peer claims more; no search for a fork |
//! | a page that links beside the chain | the branch is followed to the end of the claim: it may win; if it does not, the claim is dismissed; no penalty |
//! | a list of another hash | reported, a strike |
//! | a page or list that the caller found faulty | reported (unless the network has done so), a strike |
//! | *list not found* | the next peer; when all have said no, a pause; no penalty |
//! | late, unknown, of another peer, twice | nothing |
//!
//! A *dismissed* claim is no height to reach while its peer repeats it: the branch behind it is stored and loses the fork
//! choice, or its ancestors are not served. A higher or lower claim counts again, until its page has shown the same branch;
//! so do all claims whose branches did not link, once a search has found a fork. The pages of a dismissed claim are asked for
//! again after a pause of some seconds that grows to half a minute, in case the peer has come to another branch of the same
//! height; that does not keep the node from being live. After three searches in which the ancestors of one signer's blocks
//! were not found, the first page of a further peer with blocks of that signer is enough to dismiss its claim; its branch is
//! searched all the same.
//!
//! Three broken promises, and a peer's claims do not count; three strikes leave it out for `leave_out`. A bad record is
//! kept when a peer goes and comes back.
//!
//! # Whom to ask
//!
//! Of those that claim to have it, the one that can be expected to answer soonest: by the round trips measured on
//! that protocol, by what is on its way to it, by how often it did not have what was asked for. Nobody is asked
//! beyond its slots or its [`Pace`], so that nothing waits for a turn at one peer while another is free. Whoever
//! does not answer gets a growing, jittered pause and one request at a time until it does, and whoever fails too
//! often in a while rests, even if it answers in between ([`Backoff`]); the others go on. A page in front that keeps
//! everybody waiting is asked of a second peer after `hurry_after`.
//!
//! Everything on its way, waiting and being stored stays within `buffer_bytes`, however far behind the node is.

mod backoff;
mod chain;
mod config;
mod context;
mod dismissed;
mod heads;
mod imports;
mod lanes;
mod machine;
mod message;
mod orphans;
mod pages;
mod peers;
mod plan;
mod rate;
mod time;
mod txlists;
mod waiting;
mod walks;

pub use backoff::Backoff;
pub use config::{CatchUpConfig, ConfigError};
pub use lanes::Pace;
pub use machine::CatchUp;
pub use message::{Failure, ImportVerdict, Input, Output, Reply, Request, RequestId};
