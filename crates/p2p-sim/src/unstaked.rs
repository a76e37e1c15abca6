//! Adversaries without a stake: nobody has elected them, and every message may have a key of its own.

use async_trait::async_trait;
use p2p_types::B256;

use crate::{
    actor::{Adversary, Scene, Seat},
    stage::{Block, Parent, WINDOW, end_of, key},
};

/// A number of its own for each message.
fn fresh(scene: &Scene<'_>) -> u64 {
    scene.draw(1000..u64::MAX / 2)
}

fn hash(scene: &Scene<'_>) -> B256 {
    B256::repeat_byte(7) ^ B256::left_padding_from(&scene.draw(..).to_be_bytes())
}

/// Signs for windows that no schedule knows, so that what it says waits.
pub struct UnknownWindows {
    seat: Seat,
    /// Messages a second.
    rate: u64,
    /// Most seconds by which these windows end after now.
    furthest: u64,
}

impl UnknownWindows {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(8..24), furthest: [300, 700, 100_000][rng.usize(0..3)] }
    }
}

#[async_trait(?Send)]
impl Adversary for UnknownWindows {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (now, parent) = (scene.clock.now(), scene.tip());
        for _ in 0..self.seat.share(self.rate) {
            let (ahead, number) = (scene.draw(60..self.furthest), scene.draw(1..4));
            let (salt, parent) = (fresh(scene), Parent { number: parent.number + number, ..parent });
            self.seat.actor().commit(&Block::on(parent, now, now + ahead, salt, &key(salt))).await;
        }
    }
}

/// Promises blocks of heights that nobody can reach, of windows that are known and of such that are not, and tells peers
/// that ask of a head up there.
pub struct AbsurdHeights {
    seat: Seat,
    heights: Vec<u64>,
}

impl AbsurdHeights {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        let mut heights = vec![u64::MAX, u64::MAX - 1, 1 << 40, 5_000, 1_100];
        rng.shuffle(&mut heights);
        Self { seat, heights }
    }
}

#[async_trait(?Send)]
impl Adversary for AbsurdHeights {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (now, parent) = (scene.clock.now(), scene.tip());
        let known = end_of(scene.clock.window());
        for (index, height) in self.heights.iter().enumerate() {
            let (salt, end) = (fresh(scene), [known, known + 10 * WINDOW][index % 2]);
            let parent = Parent { number: height.wrapping_sub(1), ..parent };
            let block = Block::on(parent, now, end, salt, &key(salt));
            self.seat.actor().commit(&block).await;
            self.seat.actor().serve(&block);
        }
    }
}

/// Signs children of parents that do not exist, near the head, for this window and for windows to come.
pub struct InventedParents {
    seat: Seat,
    rate: u64,
}

impl InventedParents {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(5..20) }
    }
}

#[async_trait(?Send)]
impl Adversary for InventedParents {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (now, tip) = (scene.clock.now(), scene.tip());
        for index in 0..self.seat.share(self.rate) {
            let (salt, number) = (fresh(scene), tip.number + scene.draw(0..5));
            let parent = Parent { number, hash: hash(scene), timestamp: now };
            // Most wait for a schedule, as those of a known window cost their author too much.
            let windows = if index == 0 { 0 } else { scene.draw(4..20) };
            let end = end_of(scene.clock.window()) + windows * WINDOW;
            let block = Block::on(parent, now, end, salt, &key(salt));
            self.seat.actor().commit(&block).await;
            if index == 0 {
                self.seat.actor().serve(&block);
            }
        }
    }
}

/// Publishes lists that no block names, each with the right hash.
pub struct JunkLists {
    seat: Seat,
    rate: u64,
    bytes: usize,
}

impl JunkLists {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        let bytes = [200, 4_000, 60_000][rng.usize(0..3)];
        Self { seat, rate: if bytes > 10_000 { 4 } else { 20 }, bytes }
    }
}

#[async_trait(?Send)]
impl Adversary for JunkLists {
    async fn act(&mut self, scene: &Scene<'_>) {
        for _ in 0..self.seat.share(self.rate) {
            let mut txlist = vec![9; self.bytes];
            txlist[..8].copy_from_slice(&fresh(scene).to_be_bytes());
            self.seat.actor().list(&txlist.into()).await;
        }
    }
}

/// Signs what the preconfer of a window might sign before others know who that is.
pub struct Crowd {
    seat: Seat,
    rate: u64,
}

impl Crowd {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, rng: &mut fastrand::Rng) -> Self {
        Self { seat, rate: rng.u64(10..40) }
    }
}

#[async_trait(?Send)]
impl Adversary for Crowd {
    async fn act(&mut self, scene: &Scene<'_>) {
        let (now, tip) = (scene.clock.now(), scene.tip());
        let window = scene.clock.window();
        // Its last second, in which it is the next one's turn to be crowded, and its first ones.
        let end = match (now + WINDOW - 1 - end_of(window)) % WINDOW {
            11 => end_of(window + 1),
            0..=5 => end_of(window),
            _ => return,
        };
        for _ in 0..self.seat.share(self.rate) {
            let salt = fresh(scene);
            let parent = if salt.is_multiple_of(2) { tip } else { Parent { hash: hash(scene), ..tip } };
            self.seat.actor().commit(&Block::on(parent, now, end, salt, &key(salt))).await;
        }
    }
}

/// Signs in the name of others what they have signed already: with s in the other half.
pub struct Mirror {
    seat: Seat,
    mirrored: usize,
}

impl Mirror {
    /// In this seat, as the seed has it.
    pub fn new(seat: Seat, _: &mut fastrand::Rng) -> Self {
        Self { seat, mirrored: 0 }
    }
}

#[async_trait(?Send)]
impl Adversary for Mirror {
    async fn act(&mut self, _: &Scene<'_>) {
        let heard = self.seat.actors[1].heard();
        let new = heard.get(self.mirrored..).unwrap_or_default();
        self.mirrored = heard.len();
        for signed in new {
            let twin = Block { signed: signed.clone(), txlist: Default::default() }.mirrored();
            self.seat.actor().serve(&twin);
            self.seat.actor().commit(&twin).await;
        }
    }
}
