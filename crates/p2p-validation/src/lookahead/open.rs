//! A schedule without an election, for tests.

use std::{fmt, num::NonZeroU64};

use p2p_types::{Address, UnixSeconds};

use super::{Lookahead, LookaheadError, Slot, time::Windows};

/// **Accepts any signer.** Windows are those of a clock, but nobody is elected: whoever signs may sign. For
/// laboratories, where keys come and go; in a network it lets anybody promise anything.
///
/// It says so in its `Debug` form, and a [`Validator`](crate::Validator) that works with it reports
/// [`Leniency::AnySigner`](crate::Leniency::AnySigner). The signer in its slots is the zero address, for
/// which no key is known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OpenSchedule {
    windows: Windows,
}

impl OpenSchedule {
    /// Windows of `window` seconds each, the first from `genesis` on.
    #[must_use]
    pub const fn accepting_any_signer(genesis: UnixSeconds, window: NonZeroU64) -> Self {
        Self { windows: Windows { genesis, seconds: window } }
    }
}

impl Lookahead for OpenSchedule {
    fn turn(&self, moment: UnixSeconds) -> Result<Option<Slot>, LookaheadError> {
        let window = self.windows.nth(self.windows.index(moment).unwrap_or(0));
        Ok(window.map(|window| Slot { signer: Address::ZERO, window }))
    }

    fn elects_anyone(&self) -> bool {
        true
    }
}

impl fmt::Debug for OpenSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Windows { genesis, seconds } = self.windows;
        write!(f, "OpenSchedule(ACCEPTS ANY SIGNER, windows of {seconds} s from {genesis})")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{at, slot},
        *,
    };

    #[test]
    fn its_windows_are_exact_its_signer_is_nobody_and_it_says_so() {
        let open = OpenSchedule::accepting_any_signer(UnixSeconds::new(100), NonZeroU64::new(4).unwrap());
        assert!(open.elects_anyone());
        assert!(format!("{open:?}").contains("ACCEPTS ANY SIGNER"));
        for (moment, start) in [(0, 100), (103, 100), (104, 104)] {
            assert_eq!(at(&open, moment), Some(slot(Address::ZERO, start, start + 3)));
        }
    }
}
