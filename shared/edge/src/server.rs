//! Our own accept loop on hyper: bounded headers, bodies, times and
//! connections, problem bodies for what goes past them, and a drain at the end.

use crate::Limits;
use crate::gate::reply;
use crate::lane::{ByLane, Lane};
use crate::loops::Loops;
use crate::tls::Acceptor;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lockstep_shared::Problem;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::server::TlsStream;

/// How long open requests may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// What hyper itself takes before its own, bodyless 431; ours comes earlier.
const HARD_HEADER_BYTES: usize = 64 * 1024;
const HARD_HEADERS: usize = 256;

/// Serves until `stop` turns true (or its sender is gone), then lets open
/// requests end. `handler` gets every request that is within the bounds, and
/// the address it came from; its answers may go on for as long as they like.
/// With `tls` every connection has to open it first, within the time for a header.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    accept(listener, tls, limits, stop, ByHyper(handler), &Loops::none()).await;
}

/// The same, with `lane` answering what is its, and on threads of their own.
pub async fn serve_with_lane<L, H, F, B>(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    lane: L,
    handler: H,
) where
    L: Lane,
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let loops = Loops::start();
    accept(listener, tls, limits, stop, ByLane { lane, handler }, &loops).await;
    loops.end().await;
}

/// What is done with a connection that is open.
pub(crate) trait Connections: Clone + Send + 'static {
    /// Serves it to its end.
    fn serve<S>(
        self,
        stream: S,
        peer: IpAddr,
        limits: Arc<Limits>,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send;
}

/// All over hyper.
#[derive(Clone)]
pub(crate) struct ByHyper<H>(pub(crate) H);

impl<H, F, B> Connections for ByHyper<H>
where
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    async fn serve<S>(self, stream: S, peer: IpAddr, limits: Arc<Limits>, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        by_hyper(stream, peer, limits, stop, self.0).await;
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Arc<Acceptor>>,
    limits: Arc<Limits>,
    stop: watch::Receiver<bool>,
    connections: impl Connections,
    loops: &Loops,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut stopping = stop.clone();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let (limits, stop, connections) = (limits.clone(), stop.clone(), connections.clone());
                match tls.clone() {
                    None => loops.serve(stream, move |stream| async move {
                        connections.serve(stream, peer.ip(), limits, stop).await;
                        drop(slot);
                    }),
                    Some(tls) => loops.serve(stream, move |stream| async move {
                        // Boxed, so that a held connection doesn't keep the handshake's room.
                        if let Some(stream) = Box::pin(open(stream, &tls, &limits, stop.clone())).await {
                            connections.serve(stream, peer.ip(), limits, stop).await;
                        }
                        drop(slot);
                    }),
                }
            }
            Err(error) => {
                // Out of file descriptors, mostly: open connections go on, new ones wait.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN, slots.acquire_many(all)).await;
}

/// Resolves once `stop` is true or nobody can set it any more.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The first byte of a TLS handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// Opens TLS, or tells one that speaks plain HTTP what is spoken here.
async fn open(
    mut stream: TcpStream,
    tls: &Acceptor,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    let opening = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            let _ = stream.write_all(&plain_refused()).await;
            let _ = stream.shutdown().await;
            return Err(std::io::Error::other("plain HTTP was spoken"));
        }
        tls.accept(stream).await
    };
    let opened = tokio::select! {
        opened = tokio::time::timeout(limits.header_time(), opening) => opened,
        () = stopped(&mut stop) => return None,
    };
    match opened {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection opened no TLS");
            None
        }
        Err(_) => None,
    }
}

fn plain_refused() -> Vec<u8> {
    let detail = "this address speaks TLS 1.3: use https://, with the platform's authority (lockstep ca show --pem)";
    let problem = Problem::new(400, "tls-expected", "TLS is spoken here", detail);
    whole("400 Bad Request", &problem)
}

pub(crate) async fn by_hyper<S, H, F, B>(
    stream: S,
    peer: IpAddr,
    limits: Arc<Limits>,
    mut stop: watch::Receiver<bool>,
    handler: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Fn(Request<Incoming>, IpAddr) -> F + Clone + Send + Sync + Unpin + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let bounds = limits.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let past = past_a_bound(&request, &bounds);
        let handler = handler.clone();
        // Boxed, so that an idle connection doesn't hold the room of the largest handler.
        Box::pin(async move {
            Ok::<_, Infallible>(match past {
                Some(problem) => reply(&problem).map(Either::Left),
                None => handler(request, peer).await.map(Either::Right),
            })
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time())
        .max_headers(HARD_HEADERS)
        .max_buf_size(HARD_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut draining = false;
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            () = stopped(&mut stop), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io.into_inner();
    // An idle connection is simply closed; one that stopped in the middle of a header is told why.
    if ended.is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
        let _ = stream.write_all(&slow_header(limits.header_seconds)).await;
    }
    let _ = stream.shutdown().await;
}

pub(crate) fn slow_header(seconds: u64) -> Vec<u8> {
    let detail = format!("the request's header did not arrive within {seconds} s");
    whole("408 Request Timeout", &Problem::new(408, "timeout", "The request took too long", detail))
}

/// A problem as a whole answer, where there is no request that it could answer.
fn whole(status: &str, problem: &Problem) -> Vec<u8> {
    let body = problem.to_json();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        lockstep_shared::problem::CONTENT_TYPE,
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

fn past_a_bound(request: &Request<Incoming>, limits: &Limits) -> Option<Problem> {
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let too_much = |what: String| Some(Problem::new(431, "headers-too-large", "The header is too large", what));
    if headers.len() > limits.headers {
        return too_much(format!("{} header fields came, at most {} are taken", headers.len(), limits.headers));
    }
    if bytes > limits.header_bytes {
        return too_much(format!("the header has {bytes} bytes, at most {} are taken", limits.header_bytes));
    }
    None
}

/// Reads a body within the limits: 413 past the size, 408 past the time.
pub async fn read_body(body: Incoming, limits: &Limits) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {} bytes", limits.body_bytes);
        Problem::new(413, "too-large", "The body is too large", detail).with("limit", limits.body_bytes)
    };
    // An announced length is believed at once: nobody has to send what won't be taken.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(too_large());
    }
    let whole = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_time(), whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(Problem::new(400, "bad-request", "The body could not be read", format!("it broke off: {error}")))
        }
        Err(_) => {
            let detail = format!("the request's body did not arrive within {} s", limits.body_seconds);
            Err(Problem::new(408, "timeout", "The request took too long", detail))
        }
    }
}
