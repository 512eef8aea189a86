//! One connection, as long as all that comes on it can be answered here.

use super::answer::{has_content, write_head};
use super::head::{Judged, judge};
use super::{Lane, Outcome};
use crate::gate::{Reply, content};
use crate::{Limits, server};
use bytes::Bytes;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What one read takes at most; longer heads are put together.
const READ: usize = 8 * 1024;

thread_local! {
    /// What is read into and written from, by whichever connection's turn it is.
    static ROOM: RefCell<Room> = RefCell::new(Room { read: vec![0; READ].into_boxed_slice(), head: Vec::new() });
}

struct Room {
    read: Box<[u8]>,
    head: Vec<u8>,
}

/// How a connection left.
pub(super) enum Left {
    /// It is to be closed.
    Done,
    /// It stopped in the middle of a head for too long.
    Slow,
    /// It is hyper's from here on; these bytes were read already.
    Cold(Vec<u8>),
}

/// A connection, and what is under way on it.
pub(super) struct Hot<'l, S, L> {
    stream: &'l mut S,
    lane: &'l L,
    peer: IpAddr,
    limits: &'l Limits,
    /// What was read and not answered; empty nearly always.
    ahead: Vec<u8>,
    doing: Doing,
    /// Since when a head is waited for.
    since: Instant,
    stopping: bool,
}

enum Doing {
    /// Waits for a head. True: what is ahead was not looked at since it came.
    Reading(bool),
    Held(Pin<Box<dyn Future<Output = Reply> + Send>>),
    Writing(Rest),
}

/// What is still to be written of an answer.
struct Rest {
    head: Bytes,
    body: Bytes,
}

impl<'l, S: AsyncRead + AsyncWrite + Unpin, L: Lane> Hot<'l, S, L> {
    pub(super) fn new(stream: &'l mut S, lane: &'l L, peer: IpAddr, limits: &'l Limits) -> Self {
        let (ahead, doing) = (Vec::new(), Doing::Reading(false));
        Self { stream, lane, peer, limits, ahead, doing, since: Instant::now(), stopping: false }
    }

    /// Answers until there is nothing more to answer here.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Left {
        let mut stopped = pin!(server::stopped(&mut stop));
        // One timer for all heads: it is set anew when it goes off too early.
        let mut due = pin!(sleep_until(self.since + self.limits.header_time()));
        poll_fn(|cx| {
            if !self.stopping {
                self.stopping = stopped.as_mut().poll(cx).is_ready();
            }
            if let Poll::Ready(left) = self.poll(cx) {
                return Poll::Ready(left.unwrap_or(Left::Done));
            }
            if !matches!(self.doing, Doing::Reading(_)) {
                return Poll::Pending;
            }
            if self.stopping {
                return Poll::Ready(Left::Done);
            }
            while due.as_mut().poll(cx).is_ready() {
                let until = self.since + self.limits.header_time();
                if until <= Instant::now() {
                    return Poll::Ready(if self.ahead.is_empty() { Left::Done } else { Left::Slow });
                }
                due.as_mut().reset(until);
            }
            Poll::Pending
        })
        .await
    }

    /// Goes on as far as it can. An error ends the connection without a word.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Left>> {
        loop {
            let left = match &mut self.doing {
                Doing::Reading(_) => std::task::ready!(self.poll_head(cx))?,
                Doing::Held(answer) => match answer.as_mut().poll(cx) {
                    Poll::Ready(reply) => self.begin(cx, &reply)?,
                    Poll::Pending => {
                        std::task::ready!(self.poll_gone(cx))?;
                        return Poll::Ready(Ok(Left::Done));
                    }
                },
                Doing::Writing(rest) => {
                    std::task::ready!(rest.poll_write(self.stream, cx))?;
                    self.written()
                }
            };
            if let Some(left) = left {
                return Poll::Ready(Ok(left));
            }
        }
    }

    /// Reads until there is a head, and begins to answer it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Left>>> {
        ROOM.with_borrow_mut(|room| {
            if matches!(self.doing, Doing::Reading(true)) {
                let ahead = std::mem::take(&mut self.ahead);
                return Poll::Ready(self.take(cx, &ahead, &mut room.head));
            }
            let mut buf = ReadBuf::new(&mut room.read);
            std::task::ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(Some(Left::Done)));
            }
            if self.ahead.is_empty() {
                return Poll::Ready(self.take(cx, buf.filled(), &mut room.head));
            }
            self.ahead.extend_from_slice(buf.filled());
            // No head ends here: it is not looked through again for every piece that comes.
            if !buf.filled().contains(&b'\n') && self.ahead.len() <= READ {
                return Poll::Ready(Ok(None));
            }
            let ahead = std::mem::take(&mut self.ahead);
            Poll::Ready(self.take(cx, &ahead, &mut room.head))
        })
    }

    /// Takes what was read.
    fn take(&mut self, cx: &mut Context<'_>, bytes: &[u8], room: &mut Vec<u8>) -> io::Result<Option<Left>> {
        let (lane, peer) = (self.lane, self.peer);
        let judged = judge(bytes, self.limits, |path| lane.takes(path), |head| lane.answer(head, peer));
        match judged {
            Judged::Whole(length, outcome) => {
                self.ahead = bytes[length..].to_vec();
                match outcome {
                    Outcome::Now(reply) => self.begin_from(cx, &reply, room),
                    Outcome::Later(answer) => {
                        self.doing = Doing::Held(answer);
                        Ok(None)
                    }
                }
            }
            Judged::Partial => {
                self.ahead = bytes.to_vec();
                self.doing = Doing::Reading(false);
                Ok(None)
            }
            Judged::Cold => Ok(Some(Left::Cold(bytes.to_vec()))),
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, reply: &Reply) -> io::Result<Option<Left>> {
        ROOM.with_borrow_mut(|room| self.begin_from(cx, reply, &mut room.head))
    }

    /// Writes an answer as far as it goes at once; what is left is kept.
    fn begin_from(&mut self, cx: &mut Context<'_>, reply: &Reply, room: &mut Vec<u8>) -> io::Result<Option<Left>> {
        let body = if has_content(reply.status()) { content(reply) } else { Bytes::new() };
        room.clear();
        write_head(room, reply.status(), reply.headers(), body.len(), self.stopping);
        let slices = [IoSlice::new(room), IoSlice::new(&body)];
        let stream = Pin::new(&mut *self.stream);
        let wrote = if body.is_empty() { stream.poll_write(cx, room) } else { stream.poll_write_vectored(cx, &slices) };
        let written = match wrote {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        let head = Bytes::copy_from_slice(room.get(written..).unwrap_or_default());
        let body = body.slice(written.saturating_sub(room.len())..);
        let mut rest = Rest { head, body };
        match rest.poll_write(self.stream, cx) {
            Poll::Ready(done) => {
                done?;
                Ok(self.written())
            }
            Poll::Pending => {
                self.doing = Doing::Writing(rest);
                Ok(None)
            }
        }
    }

    fn written(&mut self) -> Option<Left> {
        self.since = Instant::now();
        self.doing = Doing::Reading(!self.ahead.is_empty());
        self.stopping.then_some(Left::Done)
    }

    /// Resolves when the peer of a held request is gone. What it sends meanwhile is kept for later.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            // More than that is not read: it waits in the kernel, and so does its end.
            return Poll::Pending;
        }
        ROOM.with_borrow_mut(|room| {
            let mut buf = ReadBuf::new(&mut room.read);
            std::task::ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut buf))?;
            self.ahead = buf.filled().to_vec();
            if self.ahead.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    }
}

impl Rest {
    fn poll_write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head.is_empty() || !self.body.is_empty() {
            let slices = [IoSlice::new(&self.head), IoSlice::new(&self.body)];
            let written = std::task::ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(self.head.len());
            self.head = self.head.slice(of_head..);
            self.body = self.body.slice(written - of_head..);
        }
        Pin::new(stream).poll_flush(cx)
    }
}
