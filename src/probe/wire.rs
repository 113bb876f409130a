//! A connection that gives out a limited number of bytes, and takes them segment by segment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// A connection. Others can look at it meanwhile. Whoever reads more than the bound gets an error.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Arc<TcpStream>,
    left: usize,
}

impl Wire {
    pub(super) fn new(stream: Arc<TcpStream>, bound: usize) -> Self {
        Self { stream, left: bound }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            let room = buffer.remaining().min(self.left);
            match self.stream.try_read(buffer.initialize_unfilled_to(room)) {
                Ok(read) => {
                    buffer.advance(read);
                    self.left -= read;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Wire {
    /// What is written at once. If it were more, the kernel would make one packet of several segments (GSO). Through the
    /// tunnel, no UDP checksum of GUE can be derived for such a packet: see `packet/encap_skb.h`.
    fn at_once<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let segment = SockRef::from(&*self.stream).tcp_mss().unwrap_or(u32::MAX);
        bytes.get(..segment.max(1) as usize).unwrap_or(bytes)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.stream.try_write(self.at_once(bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A run never waits for the other side's end: closing ends the connection.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
