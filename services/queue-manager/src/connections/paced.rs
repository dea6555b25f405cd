//! A stream whose other end must keep up: the head of a request comes within a time, and answers are taken.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

use super::Bounds;
use crate::metrics::Counted;

/// Nothing of a next request was read.
const IDLE: u8 = 0;
/// A request has begun, and its head is not complete.
const HEAD: u8 = 1;
/// A request is worked on.
const BUSY: u8 = 2;
/// It speaks another protocol, which has time limits of its own.
const UPGRADED: u8 = 3;

/// Where a connection stands between requests. Clones share it.
#[derive(Clone)]
pub(super) struct Stage(Arc<AtomicU8>);

impl Stage {
    /// A new connection owes the head of a request.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(HEAD)))
    }

    pub(super) fn head_is_read(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    pub(super) fn is_answered(&self, is_upgrade: bool) {
        let stage = if is_upgrade { UPGRADED } else { IDLE };
        self.0.store(stage, Ordering::Relaxed);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
    }

    fn begins_head(&self) -> bool {
        let changed = self
            .0
            .compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed);
        changed.is_ok()
    }

    fn is_in_head(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HEAD
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when its other end does not keep up.
pub(super) struct Paced<S> {
    stream: S,
    stage: Stage,
    bounds: Bounds,
    head: Option<Pin<Box<Sleep>>>,
    write: Option<Pin<Box<Sleep>>>,
    /// Its slot, held until the stream is closed, by whatever protocol then uses it.
    _held: (OwnedSemaphorePermit, Counted),
}

impl<S> Paced<S> {
    pub(super) fn new(
        stream: S,
        stage: Stage,
        bounds: Bounds,
        held: (OwnedSemaphorePermit, Counted),
    ) -> Self {
        Self {
            stream,
            stage,
            head: Some(Box::pin(sleep(bounds.head))),
            write: None,
            bounds,
            _held: held,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before && this.stage.begins_head() {
            this.head = Some(Box::pin(sleep(this.bounds.head)));
        }
        if !this.stage.is_in_head() {
            this.head = None;
        }
        if polled.is_pending()
            && let Some(head) = &mut this.head
        {
            ready!(head.as_mut().poll(context));
            return Poll::Ready(Err(late("the head of a request")));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        in_time(polled, &mut this.write, this.bounds.write, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        in_time(polled, &mut this.write, this.bounds.write, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        in_time(polled, &mut this.write, this.bounds.write, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        in_time(polled, &mut this.write, this.bounds.write, context)
    }
}

/// What was polled, or a failure if it has been pending for too long.
fn in_time<T>(
    polled: Poll<io::Result<T>>,
    timer: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if polled.is_ready() {
        *timer = None;
        return polled;
    }
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit)));
    ready!(timer.as_mut().poll(context));
    Poll::Ready(Err(late("room for an answer")))
}

fn late(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the client took too long: no {what} in time"),
    )
}
