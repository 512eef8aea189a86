//! API tokens: made, listed, revoked.

use super::audited::Noted;
use super::extract::{Json, Path, whole_or_none};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::access::Token;
use crate::leader::{Leader, LeaderError};
use crate::who::{Actor, LONGEST_NAME, Right, clean_name};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use lockstep_shared::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// The longest that a token may be made for: ten years.
const LONGEST: u64 = 3653 * 86_400;

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Who will act with it: letters, digits, `.`, `_`, `-`, `@`, `+`.
    #[schema(example = "ci", pattern = "^[A-Za-z0-9._@+-]{1,64}$")]
    name: String,
    /// What may be done with it; at most what the maker may do.
    #[schema(example = json!(["read", "publish"]), min_items = 1)]
    rights: Vec<Right>,
    /// Seconds until it ends; left out: it doesn't.
    #[schema(minimum = 1, maximum = 315_619_200)]
    #[serde(default, deserialize_with = "whole_or_none")]
    expires_in: Option<u64>,
}

/// A token, the one time that it is shown.
#[derive(Serialize, ToSchema)]
pub(super) struct Made {
    /// What to send as `Authorization: Bearer`. It can't be shown again.
    token: String,
    /// What is known of it.
    about: Token,
}

/// Every API token, without what it is made of.
#[utoipa::path(get, path = "/admin/access", tag = "access", responses((status = 200, body = Vec<Token>)))]
pub(super) async fn tokens(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<Token>>, Refusal> {
    allow(&actor, Right::Users)?;
    Ok(Json(leader.access.list()))
}

/// Makes an API token. It is shown this once.
#[utoipa::path(post, path = "/admin/access", tag = "access", request_body = NewToken,
    responses((status = 201, body = Made), (status = 409, description = "The name is taken")))]
pub(super) async fn create(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Extension<Noted>, Json<Made>), Refusal> {
    allow(&actor, Right::Users)?;
    let wrong = |detail: String| Refusal::from(Problem::new(422, "invalid", "No token was made", detail));
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if !(1..=LONGEST_NAME).contains(&new.name.len()) || !new.name.chars().all(word) {
        return Err(wrong(format!(
            "a token's name has 1 to {LONGEST_NAME} letters (A to Z), digits, '.', '_', '-', '@' or '+'"
        )));
    }
    if ["unknown", "leader"].contains(&new.name.as_str()) {
        return Err(taken(format!("{} has a meaning of its own in the audit: take another name", new.name)));
    }
    if new.rights.is_empty() {
        return Err(wrong("a token without rights opens nothing: give it at least one".to_owned()));
    }
    if new.expires_in.is_some_and(|seconds| seconds == 0 || seconds > LONGEST) {
        return Err(wrong("a token ends after 1 second to 10 years".to_owned()));
    }
    for right in &new.rights {
        // Nobody makes themselves more than they are.
        allow(&actor, *right)?;
    }
    let name = new.name.clone();
    let made = blocking(move || {
        leader.access.create(&new.name, &new.rights, new.expires_in, &actor.name).map_err(LeaderError::from)
    });
    let Some((token, about)) = made.await? else {
        let detail = format!(
            "there is a token {name} already: revoke it first (lockstep access revoke {name}), or take another name"
        );
        return Err(Problem::new(409, "taken", "The name is taken", detail).into());
    };
    let rights: Vec<String> = about.rights.iter().map(ToString::to_string).collect();
    let noted = format!("token {} ({}): {}", about.id, about.name, rights.join(" "));
    Ok((StatusCode::CREATED, Extension(Noted(noted)), Json(Made { token: token.to_string(), about })))
}

fn taken(detail: String) -> Refusal {
    Problem::new(409, "taken", "The name is taken", detail).into()
}

/// Revokes an API token: from now on it opens nothing.
#[utoipa::path(delete, path = "/admin/access/{name}", tag = "access",
    params(("name" = String, Path, description = "The token's name")), responses((status = 200, body = Token)))]
pub(super) async fn revoke(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<(Extension<Noted>, Json<Token>), Refusal> {
    allow(&actor, Right::Users)?;
    let wanted = name.clone();
    let gone = blocking(move || leader.access.revoke(&wanted).map_err(LeaderError::from)).await?;
    let Some(token) = gone else {
        let detail = format!("there is no token {:?}: see lockstep access list", clean_name(&name));
        return Err(Problem::new(404, "not-found", "There is no such token", detail).into());
    };
    Ok((Extension(Noted(format!("token {}", token.id))), Json(token)))
}
