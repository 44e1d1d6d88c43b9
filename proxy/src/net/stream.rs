//! A connection, plain or with mutual TLS: one branch for each read and write on the plain one, and nothing else.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};

use super::mesh::Mesh;
use super::socket;

#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Mesh(Box<Mesh>),
}

#[derive(Debug)]
pub enum ReadHalf<'s> {
    Plain(tcp::ReadHalf<'s>),
    Mesh(&'s Mesh),
}

#[derive(Debug)]
pub enum WriteHalf<'s> {
    Plain(tcp::WriteHalf<'s>),
    Mesh(&'s Mesh),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream::Plain(stream)
    }
}

impl From<Mesh> for Stream {
    fn from(mesh: Mesh) -> Stream {
        Stream::Mesh(Box::new(mesh))
    }
}

impl Stream {
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Stream::Plain(stream) => {
                let (read, write) = stream.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Stream::Mesh(mesh) => (ReadHalf::Mesh(mesh), WriteHalf::Mesh(mesh)),
        }
    }

    /// Whom the other end has proven to be; `None`: it did not have to.
    pub fn peer(&self) -> Option<&Arc<str>> {
        match self {
            Stream::Plain(_) => None,
            Stream::Mesh(mesh) => Some(mesh.peer()),
        }
    }

    /// Ready when there is something to read, the end, or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(stream) => stream.poll_read_ready(cx),
            Stream::Mesh(mesh) => mesh.poll_read_ready(cx),
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// The connection itself, below TLS.
    pub fn with_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> T {
        match self {
            Stream::Plain(stream) => look(stream),
            Stream::Mesh(mesh) => mesh.with_tcp(look),
        }
    }

    /// Lets it end with a reset, since its end would look like that of a whole message.
    pub fn reset_on_close(&self) {
        self.with_tcp(socket::reset_on_close);
    }

    /// Ends it in order. To drop it does that for a plain one only: TLS says of its end that it is one.
    pub async fn close(self) {
        if let Stream::Mesh(mesh) = self {
            Box::pin(mesh.close()).await;
        }
    }
}

impl ReadHalf<'_> {
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ReadHalf::Plain(half) => half.as_ref().poll_read_ready(cx),
            ReadHalf::Mesh(mesh) => mesh.poll_read_ready(cx),
        }
    }

    /// Reads into what is free of `into`, which does not grow. Zero: the peer sends no more.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            ReadHalf::Plain(half) => pin!(half.read_buf(into)).poll(cx),
            ReadHalf::Mesh(mesh) => mesh.poll_read(cx, into),
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            WriteHalf::Mesh(mesh) => mesh.poll_write(cx, bytes, &[]),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_write_vectored(cx, pieces),
            WriteHalf::Mesh(mesh) => match pieces {
                [first, second, ..] => mesh.poll_write(cx, first, second),
                [only] => mesh.poll_write(cx, only, &[]),
                [] => Poll::Ready(Ok(0)),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What counts as written has left.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Plain(half) => Pin::new(half).poll_shutdown(cx),
            WriteHalf::Mesh(mesh) => mesh.poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Mesh(mesh) => mesh.poll_read_buf(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Mesh(mesh) => mesh.poll_write(cx, bytes, &[]),
        }
    }

    /// What counts as written has left.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Mesh(mesh) => mesh.poll_shutdown(cx),
        }
    }
}
