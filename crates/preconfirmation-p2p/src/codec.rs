//! One codec for all request/response protocols: a length-prefixed SSZ container each way (§10).

use std::{io, marker::PhantomData, time::Duration};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    future::{AbortHandle, AbortRegistration, Abortable},
};
use libp2p::{StreamProtocol, request_response};
use preconfirmation_types::{Bytes, Container, FrameError, Rpc, frame};

/// How much of a frame is read at a time. What is announced takes addresses only; memory is touched, and so taken, as far
/// as bytes have really come.
const STEP: usize = 64 * 1024;

/// A list up to this is copied behind what stands before it: less work than a frame of yamux more.
const JOINED: usize = 16 * 1024;

/// How long a request, which has at most 512 bytes, may take to come from the opening of its stream on.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// A response, and what interrupts it while it is written.
#[derive(Debug)]
pub(crate) struct Response<C> {
    pub(crate) container: C,
    abort: Option<AbortRegistration>,
}

impl<C> Response<C> {
    /// With the handle that interrupts it: the stream is reset.
    pub(crate) fn new(container: C) -> (Self, AbortHandle) {
        let (handle, abort) = AbortHandle::new_pair();
        (Self { container, abort: Some(abort) }, handle)
    }
}

/// The stream ended before the first byte.
#[derive(Debug, thiserror::Error)]
#[error("the stream ended before the first byte")]
pub(crate) struct NoAnswer;

/// The codec of one protocol.
pub(crate) struct SszCodec<R>(PhantomData<fn() -> R>);

impl<R> SszCodec<R> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R> Clone for SszCodec<R> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<R: Rpc> request_response::Codec for SszCodec<R> {
    type Protocol = StreamProtocol;
    /// What was asked, or why the bytes of a peer ask nothing. An error of the codec while it reads a request
    /// is told to nobody, so this one comes as a request.
    type Request = Result<R::Request, FrameError>;
    type Response = Response<R::Response>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let read = tokio::time::timeout(REQUEST_WITHIN, read(io, R::REQUEST_CAP));
        match read.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(request) => Ok(Ok(request)),
            Err(error) => malformed(&error).map(Err).ok_or(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let container = read(io, R::RESPONSE_CAP).await?;
        Ok(Response { container, abort: None })
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Self::Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request.map_err(refused)?).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        Response { container, abort }: Self::Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let written = write(io, &container);
        match abort {
            Some(abort) => Abortable::new(written, abort)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())),
            None => written.await,
        }
    }
}

/// What is wrong with the bytes, if an I/O error of this codec says that something is: the peer's fault.
pub(crate) fn malformed(error: &io::Error) -> Option<FrameError> {
    error.get_ref()?.downcast_ref().copied()
}

/// Whether the other side closed the stream without a byte.
pub(crate) fn no_answer(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoAnswer>())
}

/// Reads one frame and not a byte more; does not wait for the end of the stream.
pub(crate) async fn read<C: Container>(
    io: &mut (impl AsyncRead + Unpin + Send),
    cap: usize,
) -> io::Result<C> {
    let mut prefix = [0; frame::MAX_PREFIX_BYTES];
    let mut read = 0;
    let announced = loop {
        let Some(byte) = prefix.get_mut(read..=read) else {
            return Err(refused(FrameError::Prefix));
        };
        if io.read(byte).await? == 0 {
            let error = if read == 0 {
                io::Error::new(io::ErrorKind::UnexpectedEof, NoAnswer)
            } else {
                io::ErrorKind::UnexpectedEof.into()
            };
            return Err(error);
        }
        read += 1;
        let head = prefix.get(..read).unwrap_or_default();
        if let Some((announced, _)) = frame::read_prefix(head, cap).map_err(refused)? {
            break announced;
        }
    };
    let body = read_body(io, announced).await?;
    C::from_ssz(&Bytes::from(body)).map_err(|error| refused(error.into()))
}

/// Reads so many bytes into memory of just that size: a list is kept as it was read.
async fn read_body(io: &mut (impl AsyncRead + Unpin + Send), announced: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(announced);
    while body.len() < announced {
        let read = body.len();
        body.resize(read + STEP.min(announced - read), 0);
        io.read_exact(body.get_mut(read..).unwrap_or_default()).await?;
    }
    Ok(body)
}

fn refused(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn write<C: Container>(io: &mut (impl AsyncWrite + Unpin + Send), container: &C) -> io::Result<()> {
    let (mut head, tail) = frame::parts(container);
    if tail.len() <= JOINED {
        head.extend_from_slice(&tail);
        io.write_all(&head).await?;
    } else {
        io.write_all(&head).await?;
        io.write_all(&tail).await?;
    }
    io.close().await
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use futures::{executor::block_on, io::Cursor};
    use preconfirmation_types::{
        DecodeErrorKind, GetCommitmentsByNumberRequest, GetHeadRequest, GetRawTxListResponse, PreconfHead,
        U256,
    };

    use super::*;

    #[test]
    fn what_is_read_takes_no_more_memory_than_it_is_long() {
        for announced in [0, 1, STEP, STEP + 1, 2 * 1024 * 1024 + 36] {
            let sent = vec![7; announced];
            let read = block_on(read_body(&mut Cursor::new(&sent), announced)).unwrap();
            assert_eq!((read.len(), read.capacity()), (announced, announced));
        }
        let short = block_on(read_body(&mut Cursor::new(&[7; 9]), 10)).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// Gives at most `step` bytes at a time, and says `Pending` before each.
    struct Slow<'a> {
        bytes: &'a [u8],
        step: usize,
        ready: bool,
    }

    impl AsyncRead for Slow<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.ready = !self.ready;
            if self.ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (given, rest) = self.bytes.split_at(buf.len().min(self.step).min(self.bytes.len()));
            buf[..given.len()].copy_from_slice(given);
            self.bytes = rest;
            Poll::Ready(Ok(given.len()))
        }
    }

    /// Never ends, and never gives more than `bytes`: reading on would fail the test.
    struct Open<'a>(&'a [u8]);

    impl AsyncRead for Open<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            assert!(!self.0.is_empty(), "read beyond what was needed");
            let (given, rest) = self.0.split_at(buf.len().min(self.0.len()));
            buf[..given.len()].copy_from_slice(given);
            self.0 = rest;
            Poll::Ready(Ok(given.len()))
        }
    }

    fn head() -> PreconfHead {
        PreconfHead { block_number: U256::from(7), submission_window_end: U256::from(9) }
    }

    #[test]
    fn frames_come_in_pieces_of_any_size() {
        let txlist =
            GetRawTxListResponse { raw_tx_list_hash: Default::default(), txlist: vec![3; 100_000].into() };
        let (small, large) = (frame::write(&head()), frame::write(&txlist));
        for step in [1, 2, 3, 7, 4096, usize::MAX] {
            let mut slow = Slow { bytes: &small, step, ready: false };
            assert_eq!(block_on(read::<PreconfHead>(&mut slow, 64)).unwrap(), head());
            let mut slow = Slow { bytes: &large, step, ready: false };
            let cap = 200_000;
            assert_eq!(block_on(read::<GetRawTxListResponse>(&mut slow, cap)).unwrap(), txlist);
        }
    }

    #[test]
    fn a_request_is_whole_without_the_end_of_the_stream() {
        let request = GetCommitmentsByNumberRequest { start_block_number: U256::from(1), max_count: 2 };
        let bytes = frame::write(&request);
        let mut open = Open(&bytes);
        assert_eq!(block_on(read::<GetCommitmentsByNumberRequest>(&mut open, 512)).unwrap(), request);
    }

    /// Begins, and goes on no further.
    struct Half;

    impl AsyncRead for Half {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
            // The length of a request, and then nothing.
            if buf.len() > 1 {
                return Poll::Pending;
            }
            buf.fill(4);
            Poll::Ready(Ok(1))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_begun_has_a_deadline() {
        use preconfirmation_types::GetHead;
        use request_response::Codec as _;
        let (protocol, start) = (StreamProtocol::new("/any"), tokio::time::Instant::now());
        let read = SszCodec::<GetHead>::new().read_request(&protocol, &mut Half).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), REQUEST_WITHIN);
    }

    #[track_caller]
    fn refusal<C: Container>(bytes: &[u8], cap: usize) -> FrameError {
        let Err(error) = block_on(read::<C>(&mut Open(bytes), cap)) else {
            panic!("{bytes:02x?} was read");
        };
        malformed(&error).unwrap()
    }

    #[test]
    fn a_bad_prefix_is_refused_before_anything_behind_it_is_read() {
        let large = FrameError::TooLarge { length: 65, cap: 64 };
        assert_eq!(refusal::<PreconfHead>(&[65], 64), large);
        // 2^35 - 1 bytes.
        let huge = FrameError::TooLarge { length: (1 << 35) - 1, cap: 64 };
        assert_eq!(refusal::<PreconfHead>(&[0xff, 0xff, 0xff, 0xff, 0x7f], 64), huge);
        // 64 in two bytes, and a varint that does not end.
        assert_eq!(refusal::<PreconfHead>(&[0xc0, 0x00], 64), FrameError::Prefix);
        assert_eq!(refusal::<PreconfHead>(&[0xff; 5], 64), FrameError::Prefix);
    }

    #[test]
    fn content_that_is_not_the_container_is_refused_as_such() {
        let FrameError::Content(error) = refusal::<GetHeadRequest>(&[4, 5, 0, 0, 0], 128) else {
            panic!("not the content");
        };
        assert!(matches!(error.kind, DecodeErrorKind::Offset { actual: 5, .. }));
    }

    #[test]
    fn a_stream_that_ends_early_is_nobodys_fault() {
        let read = |bytes: &[u8]| block_on(read::<PreconfHead>(&mut Cursor::new(bytes), 64)).unwrap_err();
        assert!(no_answer(&read(&[])));
        let whole = frame::write(&head());
        for end in 1..whole.len() {
            let error = read(&whole[..end]);
            assert!(!no_answer(&error) && malformed(&error).is_none());
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(no_answer(&read(&[])));
    }

    #[test]
    fn what_is_written_is_read() {
        let mut stream = Cursor::new(Vec::new());
        block_on(write(&mut stream, &head())).unwrap();
        assert_eq!(stream.get_ref().len(), 1 + 64);
        stream.set_position(0);
        assert_eq!(block_on(read::<PreconfHead>(&mut stream, 64)).unwrap(), head());
        // Joined to what stands before it, and written by itself.
        for bytes in [JOINED, JOINED + 1] {
            let (hash, txlist) = (Default::default(), vec![3; bytes].into());
            let answer = GetRawTxListResponse { raw_tx_list_hash: hash, txlist };
            let mut stream = Cursor::new(Vec::new());
            block_on(write(&mut stream, &answer)).unwrap();
            assert_eq!(stream.into_inner(), frame::write(&answer));
        }
    }
}
