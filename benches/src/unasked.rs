//! Protocols of requests that a node offers beside those that are measured, and that nobody asks.

use std::io;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
};
use preconfirmation_types::Rpc;

/// libp2p's own request/response.
pub type Unasked = request_response::Behaviour<Silence>;

/// A protocol by its name on a chain.
#[must_use]
pub fn unasked<R: Rpc>(chain: u64) -> Unasked {
    let name = StreamProtocol::try_from_owned(R::protocol(chain)).unwrap();
    Unasked::new([(name, ProtocolSupport::Full)], request_response::Config::default())
}

/// Nobody asks anything.
#[derive(Debug, Clone, Default)]
pub struct Silence;

impl request_response::Codec for Silence {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T: AsyncRead + Send>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()> {
        Ok(())
    }

    async fn read_response<T: AsyncRead + Send>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()> {
        Ok(())
    }

    async fn write_request<T: AsyncWrite + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Ok(())
    }
}
