//! People's side: the JSON API under `/admin`, one file a subject. Served on a
//! unix socket in a folder that only its owner can enter; whoever gets there
//! may do all. Every route is described where it is handled, and the
//! `OpenAPI` document is made from the same routes.

mod access;
mod aside;
mod audit;
mod audited;
mod authority;
mod certificates;
mod conf;
mod door;
mod extract;
mod fleet;
mod fleet_events;
mod followers;
mod migration;
mod observed;
mod openapi;
mod operations;
mod publishing;
mod refusal;
mod revisions;
mod rollback;
mod rollout;
mod secrets;
mod settings;
mod tokens;

use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use lockstep_edge::trace;
use lockstep_shared::Problem;
use refusal::Refusal;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use door::ACTOR;
pub use followers::{Changed, Rotating};
pub use tokens::Made as MadeToken;

/// Serves the commands' socket until the leader stops.
pub async fn serve(leader: Arc<Leader>, listener: UnixListener) {
    let mut stop = leader.stop.clone();
    let router = router(leader).layer(middleware::from_fn(door::local));
    let router = router.into_make_service_with_connect_info::<door::Caller>();
    let drained = async move { lockstep_edge::server::stopped(&mut stop).await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(drained).await {
        tracing::error!(%error, "the commands' socket failed");
    }
}

/// Serves people with API tokens until the leader stops.
pub async fn serve_people(leader: Arc<Leader>, listener: Option<TcpListener>) {
    let Some(listener) = listener else { return };
    let (limits, stop) = (Arc::new(leader.config.limits.clone()), leader.stop.clone());
    let tls = leader.authority.acceptor().filter(|_| leader.config.admin.as_ref().is_some_and(|admin| admin.tls));
    let router = router(leader.clone());
    let answer = move |request, peer| door::answer(leader.clone(), router.clone(), request, peer);
    lockstep_edge::server::serve(listener, tls, limits, stop, answer).await;
}

/// The same routes for one command, in its own process, while no leader runs.
pub fn offline(leader: Arc<Leader>, actor: Actor) -> Router {
    router(leader).layer(Extension(actor))
}

/// Everything behind the doors; whoever comes through one has an [`Actor`] on.
fn router(leader: Arc<Leader>) -> Router {
    let most = leader.config.limits.body_bytes;
    let (router, document) = routes().with_state(leader.clone()).split_for_parts();
    router
        .fallback(|| async { Refusal::from(nothing_here()) })
        .layer(Extension(openapi::Document::new(document)))
        .layer(DefaultBodyLimit::max(most))
        .layer(middleware::from_fn_with_state(leader.clone(), audited::audited))
        .layer(middleware::from_fn(explain))
        .layer(middleware::from_fn_with_state(leader, observed::observed))
}

async fn explain(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    refusal::explained(&method, next.run(request).await)
}

/// Every route and its description.
fn routes() -> OpenApiRouter<Arc<Leader>> {
    OpenApiRouter::new()
        .routes(routes!(publishing::publish))
        .routes(routes!(publishing::plan))
        .routes(routes!(publishing::notify))
        .routes(routes!(fleet::fleet))
        .routes(routes!(fleet_events::events))
        .routes(routes!(rollout::show))
        .routes(routes!(rollout::events))
        .routes(routes!(rollout::resume))
        .routes(routes!(rollout::stop))
        .routes(routes!(rollout::abort))
        .routes(routes!(revisions::list))
        .routes(routes!(revisions::show))
        .routes(routes!(revisions::bundle))
        .routes(routes!(revisions::file))
        .routes(routes!(revisions::diff))
        .routes(routes!(revisions::ran))
        .routes(routes!(revisions::blame))
        .routes(routes!(rollback::plan, rollback::rollback))
        .routes(routes!(rollback::disk))
        .routes(routes!(migration::plan, migration::migrate))
        .routes(routes!(settings::list))
        .routes(routes!(settings::get, settings::put, settings::unset))
        .routes(routes!(settings::machines))
        .routes(routes!(settings::uses))
        .routes(routes!(settings::unused))
        .routes(routes!(settings::files))
        .routes(routes!(settings::schema))
        .routes(routes!(access::tokens, access::create))
        .routes(routes!(access::revoke))
        .routes(routes!(followers::list))
        .routes(routes!(followers::show, followers::remove))
        .routes(routes!(followers::disable))
        .routes(routes!(followers::enable))
        .routes(routes!(followers::rotate))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(authority::show))
        .routes(routes!(authority::rotate))
        .routes(routes!(authority::finish))
        .routes(routes!(audit::audit))
        .routes(routes!(audit::verdict))
        .routes(routes!(secrets::secrets))
        .routes(routes!(secrets::secret, secrets::set))
        .routes(routes!(secrets::rotate))
        .routes(routes!(secrets::discard))
        .routes(routes!(certificates::list, certificates::set))
        .routes(routes!(certificates::ends))
        .routes(routes!(conf::whole))
        .routes(routes!(conf::role))
        .routes(routes!(conf::file))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::openapi))
}

fn nothing_here() -> Problem {
    Problem::new(
        404,
        "not-found",
        "There is nothing here",
        "see /openapi.json for what this leader answers to; a command of another version than its leader asks for other things",
    )
}

/// For those who failed or were refused again and again.
pub(super) fn too_often(seconds: i64) -> Problem {
    let detail = format!("too many refusals: wait {seconds} s");
    Problem::new(429, "too-often", "Too many refusals", detail).with("retry_after", seconds)
}

/// Refuses those that may not.
fn allow(actor: &Actor, right: Right) -> Result<(), Refusal> {
    if actor.may(right) {
        return Ok(());
    }
    let detail = format!("{} lacks the right {right}", actor.name);
    Err(Refusal::from(Problem::new(403, "forbidden", "This is not yours to do", detail)))
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static, E: Into<Refusal> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(trace::carried(work)).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => {
            tracing::error!(%error, "a command ended in a panic");
            Err(Refusal::from(Problem::new(500, "internal", "The leader could not do it", "see its log")))
        }
    }
}
