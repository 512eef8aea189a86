//! The ways in: who comes, and as whom they act.

use crate::who::{Actor, How};
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;

/// The header in which a command on the leader's own machine says who types it.
pub const ACTOR: &str = "lockstep-actor";

/// Who is at the other end of the unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}

/// Whoever reaches the socket may do all. They act under the name that they
/// say; the user that the kernel says stands beside it.
pub(super) async fn local(mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().map(|info| info.0);
    let said = request.headers().get(ACTOR).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let actor = Actor::local(said, How::Socket { uid: caller.and_then(|caller| caller.uid) });
    request.extensions_mut().insert(actor);
    next.run(request).await
}
