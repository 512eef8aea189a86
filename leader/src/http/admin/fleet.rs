//! What the followers run.

use super::allow;
use super::extract::{Json, Query};
use super::refusal::Refusal;
use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::api::Fleet;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// How long to wait for news.
#[derive(Deserialize, IntoParams)]
pub(super) struct After {
    /// Answer once the sequence is past this.
    after: Option<u64>,
    /// But after so many seconds at the latest (60 at most).
    seconds: Option<u64>,
}

/// What every machine runs, as it last reported.
#[utoipa::path(get, path = "/admin/fleet", params(After), responses((status = 200, body = Fleet)))]
pub(super) async fn fleet(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(query): Query<After>,
) -> Result<Json<Fleet>, Refusal> {
    allow(&actor, Right::Read)?;
    if let Some(after) = query.after {
        let mut sequence = leader.reports.sequence();
        let mut stop = leader.stop.clone();
        let time = Duration::from_secs(query.seconds.unwrap_or(30).min(60));
        let news = async {
            tokio::select! {
                _ = sequence.wait_for(|sequence| *sequence > after) => {}
                () = lockstep_edge::server::stopped(&mut stop) => {}
            }
        };
        let _ = tokio::time::timeout(time, news).await;
    }
    Ok(Json(leader.reports.fleet(&leader.published(), &leader.config.followers)))
}
