//! Who may sign a commitment, as a schedule answers it.

use std::fmt;

use p2p_types::{Address, UnixSeconds};

use super::{Slot, Window};

/// The answer to *who may sign for this timestamp and this window end?* (§4, rule 4)
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The schedule does not tell yet. The commitment waits, and nobody pays.
    NotKnown,
    /// No window there ends at that second.
    NoWindow {
        /// The end of the window that is there.
        scheduled: UnixSeconds,
    },
    /// There is such a window, and the timestamp is not in it.
    Outside {
        /// The window.
        window: Window,
    },
    /// There is such a window, and these may sign in it at that time.
    Open {
        /// The window.
        window: Window,
        /// Who may sign.
        signers: Signers,
    },
}

impl Admission {
    /// The answer of a schedule whose windows do not overlap, from the [turn](super::Lookahead::turn) at the window end.
    pub fn of_turn(turn: Option<Slot>, timestamp: UnixSeconds, window_end: UnixSeconds) -> Self {
        let Some(Slot { signer, window }) = turn else { return Self::NotKnown };
        if window.end != window_end {
            Self::NoWindow { scheduled: window.end }
        } else if !window.contains(timestamp) {
            Self::Outside { window }
        } else {
            Self::Open { window, signers: Signers::one(signer) }
        }
    }
}

/// One to four signers. Held in place, so that an answer allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signers {
    /// The first `1 + more` are the signers, the others are zero.
    addresses: [Address; Self::MAX],
    more: u8,
}

impl Signers {
    /// The most that an answer holds.
    pub const MAX: usize = 4;

    /// A single signer.
    #[must_use]
    pub const fn one(signer: Address) -> Self {
        Self { addresses: [signer, Address::ZERO, Address::ZERO, Address::ZERO], more: 0 }
    }

    /// These and one more. Who is among them already is not added; none if there is no room.
    #[must_use]
    pub fn and(mut self, signer: Address) -> Option<Self> {
        if !self.contains(signer) {
            self.more += 1;
            *self.addresses.get_mut(usize::from(self.more))? = signer;
        }
        Some(self)
    }

    /// Whether somebody is among them.
    #[must_use]
    pub fn contains(&self, signer: Address) -> bool {
        self.as_slice().contains(&signer)
    }

    /// The one whose turn it is; the others may sign beside it.
    #[must_use]
    pub const fn first(&self) -> Address {
        let [first, ..] = self.addresses;
        first
    }

    /// All of them, the one whose turn it is first.
    #[must_use]
    pub fn as_slice(&self) -> &[Address] {
        self.addresses.get(..=usize::from(self.more)).unwrap_or(&self.addresses)
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{A, B, slot, window},
        *,
    };

    #[test]
    fn a_turn_admits_its_signer_in_its_window_only() {
        let turn = Some(slot(A, 10, 19));
        let answer =
            |timestamp, end| Admission::of_turn(turn, UnixSeconds::new(timestamp), UnixSeconds::new(end));
        let window = window(10, 19);
        for inside in [10, 19] {
            assert_eq!(answer(inside, 19), Admission::Open { window, signers: Signers::one(A) });
        }
        for outside in [9, 20] {
            assert_eq!(answer(outside, 19), Admission::Outside { window });
        }
        for end in [18, 20] {
            assert_eq!(answer(15, end), Admission::NoWindow { scheduled: window.end });
        }
        let unknown = Admission::of_turn(None, window.start, window.end);
        assert_eq!(unknown, Admission::NotKnown);
    }

    #[test]
    fn signers_are_counted_once_up_to_four() {
        let both = Signers::one(A).and(B).and_then(|signers| signers.and(A)).unwrap();
        assert_eq!((both.as_slice(), both.first()), (&[A, B][..], A));
        assert!(both.contains(B) && !both.contains(Address::ZERO), "an empty place is nobody");
        let three = both.and(Address::repeat_byte(3)).unwrap();
        let four = three.and(Address::repeat_byte(4)).unwrap();
        assert_eq!(four.as_slice().len(), Signers::MAX);
        assert_eq!(four.and(Address::repeat_byte(5)), None);
        assert_eq!(four.and(B), Some(four));
    }
}
