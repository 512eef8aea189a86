//! The short way to an answer, beside hyper's: for requests of which the head
//! is all, that are plainly well-formed, and that are many. Whatever is
//! anything else goes to hyper from its first byte on, and so does the rest of
//! its connection: what is answered here, hyper would have answered alike.
//!
//! A connection that idles, or whose request is held, keeps no buffer.

mod answer;
mod connection;
mod head;
mod rewound;
#[cfg(test)]
mod tests;

pub use head::{Head, Lines};

use crate::Limits;
use crate::gate::Reply;
use crate::server::{self, Connections};
use bytes::Bytes;
use connection::{Hot, Left};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use rewound::Rewound;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// What answers requests by their head alone.
pub trait Lane: Clone + Send + Sync + Unpin + 'static {
    /// Whether `GET` of this path, as it stands on the wire, is its to answer.
    fn takes(&self, path: &str) -> bool;

    /// What a request of `peer` comes to.
    fn answer(&self, head: &Head<'_>, peer: IpAddr) -> Outcome;
}

/// What a request comes to.
pub enum Outcome {
    /// This answer.
    Now(Reply),
    /// One that there will be. Dropped when whom it is for goes away.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// Connections on which `lane` answers what is its, and `handler` the rest, over hyper.
#[derive(Clone)]
pub(crate) struct ByLane<L, H> {
    pub(crate) lane: L,
    pub(crate) handler: H,
}

impl<L, H, F, B> Connections for ByLane<L, H>
where
    L: Lane,
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    async fn serve<S>(self, mut stream: S, peer: IpAddr, limits: Arc<Limits>, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let left = Hot::new(&mut stream, &self.lane, peer, &limits).run(stop.clone()).await;
        match left {
            // Boxed, so that a connection that never goes there doesn't hold hyper's room.
            Left::Cold(ahead) => {
                let stream = Rewound::new(ahead, stream);
                Box::pin(server::by_hyper(stream, peer, limits, stop, self.handler)).await;
            }
            Left::Slow => {
                let _ = stream.write_all(&server::slow_header(limits.header_seconds)).await;
                let _ = stream.shutdown().await;
            }
            Left::Done => {
                let _ = stream.shutdown().await;
            }
        }
    }
}
