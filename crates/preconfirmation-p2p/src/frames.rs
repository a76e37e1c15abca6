//! Where the frames on a gossip stream of a peer begin and end. No clock: every call says what time it is.
//!
//! Everything on such a stream, the negotiation of its protocol included, comes in frames behind an unsigned varint. What
//! a frame has brought is kept until the rest is there, so how long it may be unfinished is bounded, and for that it has to be
//! seen. Only the lengths are read, and what is in short frames of control messages where that is asked for.

use std::time::Instant;

/// How the names of gossip protocols begin, as the negotiation has them.
const GOSSIP: [&[u8]; 2] = [b"/meshsub/", b"/floodsub/"];

/// As many bytes of a name as it takes to know it.
const NAME: usize = 10;

/// Frames of the negotiation before the protocol's own: its header, and names until one is agreed.
const NEGOTIATION: u32 = 16;

/// Longest frame of control messages that is kept: an IDONTWANT of one message has some thirty bytes.
const CONTROL: u64 = 4096;

/// With which tag a frame of nothing but control messages begins: field 3 of gossipsub's RPC.
const CONTROL_TAG: u8 = 0x1a;

/// Follows what a stream brings.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    kind: Kind,
    /// Bytes of the frame still to come; none between two frames.
    left: Option<u64>,
    /// What has come of the length.
    length: u64,
    shift: u32,
    begun: Option<Instant>,
    /// Whether nothing but the length has come of the frame.
    begins: bool,
    controls: Controls,
}

/// Frames of control messages.
#[derive(Debug, Default)]
struct Controls {
    wanted: bool,
    /// What has come of one.
    part: Option<Vec<u8>>,
    whole: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Kind {
    /// Which protocol it is is not known yet.
    Negotiating {
        frames: u32,
        name: Vec<u8>,
    },
    Gossip,
    Other,
}

impl Default for Kind {
    fn default() -> Self {
        Self::Negotiating { frames: 0, name: Vec::new() }
    }
}

impl Frames {
    /// With the frames of control messages.
    pub(crate) fn with_controls() -> Self {
        Self { controls: Controls { wanted: true, ..Controls::default() }, ..Self::default() }
    }

    /// The short frames of control messages that have come since the last call.
    pub(crate) fn take_controls(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.controls.whole)
    }

    /// Whether the next byte begins a frame of gossip.
    pub(crate) const fn is_between_messages(&self) -> bool {
        matches!(self.kind, Kind::Gossip) && self.left.is_none() && self.shift == 0
    }

    /// Since when a frame of gossip is unfinished, after these bytes.
    pub(crate) fn read(&mut self, mut bytes: &[u8], now: Instant) -> Option<Instant> {
        while let Some((first, rest)) = bytes.split_first()
            && !matches!(self.kind, Kind::Other)
        {
            self.begun.get_or_insert(now);
            let Some(left) = self.left else {
                bytes = rest;
                self.prefix(*first);
                continue;
            };
            let (part, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            bytes = rest;
            match &mut self.kind {
                Kind::Negotiating { name, .. } => {
                    name.extend(part.iter().take(NAME.saturating_sub(name.len())));
                }
                _ => self.controls.come(part, self.begins, left),
            }
            self.begins = false;
            self.come(left.saturating_sub(part.len() as u64));
        }
        self.begun.filter(|_| matches!(self.kind, Kind::Gossip))
    }

    /// A byte of a length.
    fn prefix(&mut self, byte: u8) {
        self.length |= u64::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(u64::MAX);
        self.shift = self.shift.saturating_add(7);
        if byte & 0x80 == 0 {
            let length = std::mem::take(&mut self.length);
            self.shift = 0;
            self.begins = true;
            self.come(length);
        }
    }

    /// So much of the frame is still to come.
    fn come(&mut self, left: u64) {
        if left > 0 {
            self.left = Some(left);
            return;
        }
        (self.left, self.begun) = (None, None);
        self.controls.whole.extend(self.controls.part.take());
        if let Kind::Negotiating { frames, name } = &mut self.kind {
            *frames += 1;
            if GOSSIP.iter().any(|gossip| name.starts_with(gossip)) {
                self.kind = Kind::Gossip;
            } else if !name.starts_with(b"/") || *frames == NEGOTIATION {
                self.kind = Kind::Other;
            } else {
                name.clear();
            }
        }
    }
}

impl Controls {
    /// A part of a frame, of which so much was still to come.
    fn come(&mut self, part: &[u8], begins: bool, left: u64) {
        if begins {
            let kept = self.wanted && left <= CONTROL && part.first() == Some(&CONTROL_TAG);
            self.part = kept.then(Vec::new);
        }
        if let Some(kept) = &mut self.part {
            kept.extend(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap();
        let prefix = if length < 128 {
            vec![u8::try_from(length).unwrap()]
        } else {
            vec![u8::try_from(length & 0x7f).unwrap() | 0x80, u8::try_from(length >> 7).unwrap()]
        };
        [prefix, bytes.to_vec()].concat()
    }

    fn negotiation(name: &[u8]) -> Vec<u8> {
        [framed(b"/multistream/1.0.0\n"), framed(name)].concat()
    }

    #[test]
    fn a_frame_of_gossip_is_unfinished_from_its_first_byte_to_its_last() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        for name in [&b"/meshsub/1.2.0\n"[..], b"/floodsub/1.0.0\n"] {
            // Whole, and byte by byte.
            for step in [usize::MAX, 1] {
                let mut frames = Frames::default();
                let header = negotiation(name);
                for bytes in header.chunks(step.min(header.len())) {
                    assert_eq!(frames.read(bytes, at(0)), None);
                }
                let frame = framed(&[7; 300]);
                for bytes in [&frame[..], &frame[..1]].concat().chunks(step.min(301)) {
                    frames.read(bytes, at(1));
                }
                assert_eq!(frames.read(&frame[1..200], at(2)), Some(at(1)));
                assert_eq!(frames.read(&frame[200..301], at(3)), Some(at(1)));
                assert_eq!(frames.read(&frame[301..], at(4)), None);
                assert_eq!(frames.read(&[0, 0, 0], at(5)), None);
                assert_eq!(frames.read(&[0, 5], at(6)), Some(at(6)));
            }
        }
    }

    #[test]
    fn what_is_not_gossip_is_not_followed() {
        let now = Instant::now();
        for name in [&b"/ipfs/ping/1.0.0\n"[..], b"/taiko/167000/preconf/1/get_head\n"] {
            let mut frames = Frames::default();
            let header = negotiation(name);
            for bytes in [&header[..], &[0xff; 1000], &[7; 1000]] {
                assert_eq!(frames.read(bytes, now), None);
            }
        }
        // Names without end.
        let mut frames = Frames::default();
        for _ in 0..100 {
            assert_eq!(frames.read(&framed(b"/any\n"), now), None);
        }
        assert!(matches!(frames.kind, Kind::Other));
    }

    #[test]
    fn any_bytes_do() {
        let now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let mut frames = Frames::default();
            frames.read(&negotiation(b"/meshsub/1.1.0\n"), now);
            for _ in 0..20 {
                let mut bytes = vec![0; rng.usize(..100)];
                rng.fill(&mut bytes);
                frames.read(&bytes, now);
            }
        }
    }

    #[test]
    fn short_control_messages_are_kept_however_they_come() {
        let now = Instant::now();
        let control = [&[CONTROL_TAG][..], &[7; 100]].concat();
        let long = [&[CONTROL_TAG][..], &[8; 4096]].concat();
        let stream = [
            negotiation(b"/meshsub/1.2.0\n"),
            framed(&control),
            framed(&[0x12, 1, 2, 3]),
            framed(&long),
            framed(&[]),
            framed(&[CONTROL_TAG]),
        ]
        .concat();
        for step in [1, 7, stream.len()] {
            let (mut frames, mut plain) = (Frames::with_controls(), Frames::default());
            let mut kept = Vec::new();
            for bytes in stream.chunks(step) {
                frames.read(bytes, now);
                kept.extend(frames.take_controls());
                plain.read(bytes, now);
            }
            assert_eq!(kept, [control.clone(), vec![CONTROL_TAG]], "{step}");
            assert!(frames.is_between_messages() && plain.take_controls().is_empty());
        }
        let mut other = Frames::with_controls();
        other.read(&[negotiation(b"/other/1\n"), framed(&control)].concat(), now);
        assert!(other.take_controls().is_empty() && !other.is_between_messages());
    }
}
