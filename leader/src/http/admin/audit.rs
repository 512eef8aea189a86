//! The audit: reading it, and looking over its chain.

use super::extract::{Json, Query};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::audit::{Chained, Verdict};
use crate::leader::{Leader, LeaderError};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::Problem;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Records given at once, unless fewer are asked for.
const MOST: usize = 1000;

/// Which records.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Not before this time, in Unix seconds.
    since: Option<i64>,
    /// Before this number: to page backwards.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// At most so many (100; at most 1000).
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The last records, oldest first.
#[utoipa::path(get, path = "/admin/audit", tag = "audit", params(Which), responses((status = 200, body = Vec<Chained>)))]
pub(super) async fn audit(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<Chained>>, Refusal> {
    allow(&actor, Right::Read)?;
    let limit = usize::try_from(which.limit.unwrap_or(100)).unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) || which.before.is_some_and(|before| before < 1) {
        let detail = format!("limit has to be 1 to {MOST}, before at least 1");
        return Err(Problem::new(400, "bad-request", "The query can't be used", detail).into());
    }
    let before = which.before.unwrap_or(i64::MAX);
    let records =
        move || leader.audit.records(which.since.unwrap_or(i64::MIN), before, limit).map_err(LeaderError::from);
    blocking(records).await.map(Json)
}

/// A place in the chain that was noted elsewhere.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Known {
    /// `NUMBER:HASH`, as an earlier verdict said it: this record has to be in the chain.
    #[param(pattern = "^[1-9][0-9]{0,15}:[0-9a-fA-F]{64}$")]
    known: Option<String>,
}

/// Recomputes the whole chain: whether a record was changed, or is missing.
#[utoipa::path(get, path = "/admin/audit/verdict", tag = "audit", params(Known),
    responses((status = 200, body = Verdict)))]
pub(super) async fn verdict(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Query(known): Query<Known>,
) -> Result<Json<Verdict>, Refusal> {
    allow(&actor, Right::Read)?;
    let known = known.known.as_deref().map(place).transpose()?;
    let look = move || {
        let known = known.as_ref().map(|(number, hash)| (*number, hash.as_str()));
        leader.audit.verify(known).map_err(LeaderError::from)
    };
    blocking(look).await.map(Json)
}

/// `NUMBER:HASH`
fn place(text: &str) -> Result<(i64, String), Refusal> {
    let place = text.split_once(':').filter(|(number, hash)| {
        let digits = (1..=16).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        digits && !number.starts_with('0') && hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    place.and_then(|(number, hash)| Some((number.parse().ok()?, hash.to_owned()))).ok_or_else(|| {
        let detail = "known has to be a record's number and its hash, as NUMBER:HASH with 64 hex digits";
        Problem::new(400, "bad-request", "The query can't be used", detail).into()
    })
}
