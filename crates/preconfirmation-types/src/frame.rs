//! Length-prefixed frames: an unsigned varint, then one SSZ container (§10).

use bytes::Bytes;
use unsigned_varint::{decode, encode};

use crate::{Container, error::FrameError};

/// Longest length prefix: 35 bits in groups of seven, far above every cap.
pub const MAX_PREFIX_BYTES: usize = 5;

/// Reads the length prefix at the start of `bytes` and judges it against `cap`, before anything behind it
/// is read or allocated. `Ok(None)` asks for more bytes; otherwise the announced length and the number of
/// bytes that the prefix itself takes.
///
/// # Errors
/// [`FrameError::Prefix`] for a varint that is not minimal or longer than [`MAX_PREFIX_BYTES`], [`FrameError::TooLarge`]
/// for a length over the cap.
pub fn read_prefix(bytes: &[u8], cap: usize) -> Result<Option<(usize, usize)>, FrameError> {
    // Five groups of seven bits cannot overflow a u64; `decode::u32` would drop the bits above 32.
    let head = bytes.get(..MAX_PREFIX_BYTES).unwrap_or(bytes);
    let (length, rest) = match decode::u64(head) {
        Ok(read) => read,
        Err(decode::Error::Insufficient) if head.len() < MAX_PREFIX_BYTES => return Ok(None),
        Err(_) => return Err(FrameError::Prefix),
    };
    match usize::try_from(length) {
        Ok(announced) if announced <= cap => Ok(Some((announced, head.len() - rest.len()))),
        _ => Err(FrameError::TooLarge { length, cap }),
    }
}

/// The frame of a container.
#[must_use]
pub fn write<C: Container>(container: &C) -> Vec<u8> {
    let (mut frame, tail) = parts(container);
    frame.extend_from_slice(&tail);
    frame
}

/// The frame of a container in two parts, as [`Container::to_ssz_parts`] has them, the prefix before the first.
#[must_use]
pub fn parts<C: Container>(container: &C) -> (Vec<u8>, Bytes) {
    let (head, tail) = container.to_ssz_parts();
    let mut buffer = encode::usize_buffer();
    let prefix = encode::usize(head.len() + tail.len(), &mut buffer);
    ([prefix, &head].concat(), tail)
}

/// Reads one whole frame and nothing behind it.
///
/// # Errors
/// [`FrameError`] tells what is wrong with the prefix, the length or the content.
pub fn read<C: Container>(bytes: &Bytes, cap: usize) -> Result<C, FrameError> {
    let (announced, prefix) = read_prefix(bytes, cap)?.ok_or(FrameError::PrefixCutOff)?;
    let actual = bytes.len() - prefix;
    if actual != announced {
        return Err(FrameError::Length { announced, actual });
    }
    Ok(C::from_ssz(&bytes.slice(prefix..))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GetHead, GetHeadRequest, Rpc};

    fn head(bytes: &'static [u8]) -> Result<GetHeadRequest, FrameError> {
        read(&Bytes::from_static(bytes), GetHead::REQUEST_CAP)
    }

    #[test]
    fn a_frame_is_read_back() {
        assert_eq!(write(&GetHeadRequest {}), [4, 4, 0, 0, 0]);
        assert_eq!(head(&[4, 4, 0, 0, 0]), Ok(GetHeadRequest {}));
    }

    #[test]
    fn every_broken_frame_has_its_error() {
        assert_eq!(head(&[]), Err(FrameError::PrefixCutOff));
        assert_eq!(head(&[0x84]), Err(FrameError::PrefixCutOff));
        assert_eq!(head(&[0x84, 0x00, 4, 0, 0, 0]), Err(FrameError::Prefix));
        assert_eq!(head(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(FrameError::Prefix));
        let beyond_u32 = FrameError::TooLarge { length: 0x1_ffff_ffff, cap: 128 };
        assert_eq!(head(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(beyond_u32));
        assert_eq!(head(&[0xff; 12]), Err(FrameError::Prefix));
        let largest = FrameError::TooLarge { length: u64::from(u32::MAX), cap: 128 };
        assert_eq!(head(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(largest));
        assert_eq!(head(&[4, 4, 0, 0]), Err(FrameError::Length { announced: 4, actual: 3 }));
        assert_eq!(head(&[4, 4, 0, 0, 0, 9]), Err(FrameError::Length { announced: 4, actual: 5 }));
        assert!(matches!(head(&[4, 5, 0, 0, 0]), Err(FrameError::Content(_))));
    }

    #[test]
    fn the_cap_itself_is_allowed_and_one_more_is_not() {
        assert_eq!(read_prefix(&[0x80, 0x01], 128), Ok(Some((128, 2))));
        assert_eq!(read_prefix(&[0x81, 0x01], 128), Err(FrameError::TooLarge { length: 129, cap: 128 }));
    }
}
