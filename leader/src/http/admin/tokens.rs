//! Tokens to join with: made, listed, taken back.

use super::audited::Noted;
use super::extract::{Json, Path, whole_or_none};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::{Leader, LeaderError};
use crate::roster::{JoinTokenView, Wanted};
use crate::who::{Actor, Right, clean_name};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use lockstep_shared::{Name, Problem};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// For how long a token can be used, unless said otherwise: a day.
const USUAL: u64 = 86_400;
/// The longest: 30 days.
const LONGEST: u64 = 30 * 86_400;

/// A join token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJoinToken)]
pub(super) struct New {
    /// The role of whoever joins with it.
    #[schema(example = "core")]
    role: String,
    /// The only name that they may take; left out: any that is free.
    #[serde(default)]
    name: Option<String>,
    /// Seconds until it ends (86400 if left out).
    #[schema(minimum = 1, maximum = 2_592_000)]
    #[serde(default, deserialize_with = "whole_or_none")]
    expires_in: Option<u64>,
}

/// A join token, the one time that it is shown.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = MadeJoinToken)]
pub struct Made {
    /// What to type on the machine that is to join. It can't be shown again.
    pub token: String,
    /// What is known of it.
    pub about: JoinTokenView,
    /// The fingerprint of this leader's CA, which the machine shows as well; none behind a proxy.
    pub fingerprint: Option<String>,
    /// Where the machine will look for the leader.
    pub addresses: Vec<String>,
}

/// Every join token that can be used or could be lately, without its secret.
#[utoipa::path(get, path = "/admin/tokens", tag = "followers", responses((status = 200, body = Vec<JoinTokenView>)))]
pub(super) async fn list(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<JoinTokenView>>, Refusal> {
    allow(&actor, Right::Followers)?;
    blocking(move || leader.roster.join_tokens(leader.authority.issuing()).map_err(LeaderError::from)).await.map(Json)
}

/// Makes a token with which one machine joins. It is shown this once.
#[utoipa::path(post, path = "/admin/tokens", tag = "followers", request_body = New,
    responses((status = 201, body = Made), (status = 409, description = "No machine can join this leader as it is configured, or the name is taken")))]
pub(super) async fn create(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(new): Json<New>,
) -> Result<(StatusCode, Extension<Noted>, Json<Made>), Refusal> {
    allow(&actor, Right::Followers)?;
    let made = blocking(move || make(&leader, &new, &actor)).await?;
    let bound = made.about.name.as_ref().map(|name| format!(", for {name}")).unwrap_or_default();
    let noted = format!("join token {} for the role {}{bound}", made.about.id, made.about.role);
    Ok((StatusCode::CREATED, Extension(Noted(noted)), Json(made)))
}

fn make(leader: &Leader, new: &New, actor: &Actor) -> Result<Made, Refusal> {
    let wrong = |detail: String| Refusal::from(Problem::new(422, "invalid", "No token was made", detail));
    let role = Name::new(new.role.as_str()).map_err(|bad| wrong(format!("the role: {bad}")))?;
    let name = new.name.as_deref().map(Name::new).transpose().map_err(|bad| wrong(format!("the name: {bad}")))?;
    let seconds = new.expires_in.unwrap_or(USUAL);
    if !(1..=LONGEST).contains(&seconds) {
        return Err(wrong("a token ends after 1 second to 30 days".to_owned()));
    }
    let roles = leader.with_press(crate::press::Press::roles)?;
    if !roles.contains(&role) {
        let all: Vec<&str> = roles.iter().map(Name::as_str).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        return Err(wrong(format!("the published release has no templates for the role {role}; it has: {all}")));
    }
    if let Some(name) = name.as_ref().filter(|name| leader.config.members.get(name.as_str()).is_some()) {
        let detail = format!(
            "{name} is taken (lockstep followers show {name}): take another name, or remove that follower first"
        );
        return Err(Problem::new(409, "taken", "The name is taken", detail).into());
    }
    let (pin, addresses) = leader.way_in()?;
    let fingerprint = crate::roster::pin_fingerprint(pin);
    let wanted =
        Wanted { role, name, seconds: i64::try_from(seconds).unwrap_or(i64::MAX), pin, addresses: addresses.clone() };
    let (token, about) = leader.roster.make_token(wanted, &actor.name).map_err(LeaderError::from)?;
    Ok(Made { token: token.to_string(), about, fingerprint, addresses })
}

/// Takes a join token back: nobody joins with it any more.
#[utoipa::path(delete, path = "/admin/tokens/{id}", tag = "followers",
    params(("id" = String, Path, description = "Its public id")),
    responses((status = 200, body = JoinTokenView), (status = 409, description = "It was used, revoked, or is not known")))]
pub(super) async fn revoke(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(id): Path<String>,
) -> Result<(Extension<Noted>, Json<JoinTokenView>), Refusal> {
    allow(&actor, Right::Followers)?;
    let (id, by) = (clean_name(&id), actor.name.clone());
    let token = blocking(move || leader.roster.revoke_token(&id, &by).map_err(LeaderError::from)).await?;
    Ok((Extension(Noted(format!("join token {}", token.id))), Json(token)))
}
