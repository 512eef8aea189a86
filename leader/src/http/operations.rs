//! `/healthz`, `/readyz` and `/metrics`: for whoever watches the leader.

use super::{metrics, problem};
use crate::leader::Leader;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use lockstep_edge::gate::{Reply, reply};
use lockstep_edge::metrics::CONTENT_TYPE;
use std::sync::Arc;

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watcher {
    /// Whoever reaches the followers' listener: counts, and no name of a machine.
    Anyone,
    /// Whoever reaches the admin listener or the commands' socket.
    Person,
}

pub(super) async fn serve(leader: Arc<Leader>, path: &str, watcher: Watcher) -> Reply {
    match path {
        "/metrics" => {
            // Off this thread: a page about many machines takes a while.
            let page = tokio::task::spawn_blocking(move || metrics::page(&leader, watcher)).await;
            text(CONTENT_TYPE, page.unwrap_or_default())
        }
        "/readyz" => {
            let ready = tokio::task::spawn_blocking(move || leader.ready()).await;
            match ready.unwrap_or_else(|_| Err("its log says why".to_owned())) {
                Ok(()) => text("text/plain; charset=utf-8", "ok\n".to_owned()),
                // To anyone: that it is so. Why is for people.
                Err(why) => {
                    let why = if watcher == Watcher::Person {
                        why
                    } else {
                        "its log and the admin listener's /readyz say why".to_owned()
                    };
                    tracing::debug!(why, "not ready");
                    reply(&problem(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The leader is not ready", why))
                }
            }
        }
        // That it answers is all that this says.
        _ => text("text/plain; charset=utf-8", "ok\n".to_owned()),
    }
}

fn text(kind: &'static str, body: String) -> Reply {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
