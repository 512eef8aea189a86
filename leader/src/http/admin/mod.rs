//! People's side: the JSON API under `/admin`, one file a subject. Served on a
//! unix socket in a folder that only its owner can enter; whoever gets there
//! may do all. Every route is described where it is handled, and the
//! `OpenAPI` document is made from the same routes.

mod conf;
mod fleet;
mod publishing;
mod refusal;
mod revisions;
mod rollback;
mod settings;

use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use lockstep_shared::Problem;
use refusal::Refusal;
use std::sync::Arc;
use tokio::net::UnixListener;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The header in which a command on the leader's own machine says who types it.
pub const ACTOR: &str = "lockstep-actor";

/// Serves until the leader stops.
pub async fn serve(leader: Arc<Leader>, listener: UnixListener) {
    let mut stop = leader.stop.clone();
    let (router, _document) = routes().with_state(leader).split_for_parts();
    let router = router.fallback(|| async { Refusal::from(nothing_here()) }).layer(middleware::from_fn(local));
    let drained = async move { lockstep_edge::server::stopped(&mut stop).await };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(drained).await {
        tracing::error!(%error, "the commands' socket failed");
    }
}

/// Every route and its description.
fn routes() -> OpenApiRouter<Arc<Leader>> {
    OpenApiRouter::new()
        .routes(routes!(publishing::publish))
        .routes(routes!(publishing::plan))
        .routes(routes!(publishing::notify))
        .routes(routes!(fleet::fleet))
        .routes(routes!(revisions::list))
        .routes(routes!(revisions::show))
        .routes(routes!(revisions::bundle))
        .routes(routes!(revisions::file))
        .routes(routes!(revisions::diff))
        .routes(routes!(revisions::ran))
        .routes(routes!(revisions::blame))
        .routes(routes!(rollback::plan, rollback::rollback))
        .routes(routes!(rollback::disk))
        .routes(routes!(settings::list))
        .routes(routes!(settings::get, settings::put, settings::unset))
        .routes(routes!(settings::machines))
        .routes(routes!(settings::uses))
        .routes(routes!(settings::unused))
        .routes(routes!(settings::files))
        .routes(routes!(settings::schema))
        .route("/conf", axum::routing::get(conf::conf))
        .route("/conf/{*path}", axum::routing::get(conf::conf))
}

/// Whoever reaches the socket acts under the name that they say.
async fn local(mut request: Request, next: Next) -> Response {
    let name = request.headers().get(ACTOR).and_then(|name| name.to_str().ok()).unwrap_or("unknown");
    let actor = Actor::local(name);
    request.extensions_mut().insert(actor);
    next.run(request).await
}

fn nothing_here() -> Problem {
    Problem::new(404, "not-found", "There is nothing here", "this leader is another version than the command")
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
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => {
            tracing::error!(%error, "a command ended in a panic");
            Err(Refusal::from(Problem::new(500, "internal", "The leader could not do it", "see its log")))
        }
    }
}
