//! What the followers run.

use super::extract::{Json, Query};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::certificates::check::SOON;
use crate::leader::{Leader, LeaderError};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::Problem;
use lockstep_shared::api::Fleet;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// How long to wait for news.
#[derive(Deserialize, IntoParams)]
pub(super) struct After {
    /// Answer once the sequence is past this.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// But after so many seconds at the latest (5 if left out).
    #[param(minimum = 0, maximum = 60)]
    seconds: Option<u8>,
}

/// What every machine runs, as it last reported.
#[utoipa::path(get, path = "/admin/fleet", params(After), responses((status = 200, body = Fleet)))]
pub(super) async fn fleet(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(query): Query<After>,
) -> Result<Json<Fleet>, Refusal> {
    allow(&actor, Right::Read)?;
    if query.after.is_some_and(|after| after < 0) || query.seconds.is_some_and(|seconds| seconds > 60) {
        let detail = "after can't be below 0, nor seconds above 60";
        return Err(Problem::new(400, "bad-request", "The query can't be used", detail).into());
    }
    if let Some(after) = query.after.and_then(|after| u64::try_from(after).ok()) {
        let mut sequence = leader.reports.sequence();
        // A number that isn't reached yet is from before this leader's start: there is news.
        let after = if after > *sequence.borrow() { 0 } else { after };
        let mut stop = leader.stop.clone();
        let time = Duration::from_secs(query.seconds.unwrap_or(5).into());
        let news = async {
            tokio::select! {
                _ = sequence.wait_for(|sequence| *sequence > after) => {}
                () = lockstep_edge::server::stopped(&mut stop) => {}
            }
        };
        let _ = tokio::time::timeout(time, news).await;
    }
    blocking(move || Ok::<_, LeaderError>(now(&leader))).await.map(Json)
}

/// The fleet and its rollout, and the certificates that end soon. May block where a revision is new.
pub(super) fn now(leader: &Leader) -> Fleet {
    let fleet = leader.reports.fleet(&leader.published(), &leader.config.members.now());
    Fleet { rollout: leader.rollout.view(), ending: leader.ending(SOON), ..fleet }
}
