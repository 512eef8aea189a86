//! Secrets: which there are, setting, rotating. Never a value.

use super::audited::Noted;
use super::extract::{Json, Path, Sealed};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::leader::Leader;
use crate::secrets::inventory::{self, Entry, SecretError, Whose};
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::Problem;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A value to be set.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewSecretValue)]
#[serde(deny_unknown_fields)]
pub(super) struct NewValue {
    /// The value: 4 to 65536 characters, without zero characters and without a newline at its end.
    #[schema(value_type = String, format = Password, pattern = r"^[^\x00]{3,65535}[^\x00\n]$", write_only)]
    value: Zeroizing<String>,
    /// Of a secret with a value for each machine: whose.
    machine: Option<String>,
    /// Of a secret with a value for each role: whose.
    role: Option<String>,
}

/// Whose value is to be made anew; all of them, if nobody is named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Of a secret with a value for each machine: this one's only.
    machine: Option<String>,
    /// Of a secret with a value for each role: this one's only.
    role: Option<String>,
}

/// Every secret: whose, where from, since when, who uses it.
#[utoipa::path(get, path = "/admin/secrets", tag = "secrets", responses((status = 200, body = Vec<Entry>),
    (status = 422, description = "The files on disk can't be read")))]
pub(super) async fn secrets(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<Entry>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.with_press(|press| inventory::list(press))).await.map(Json)
}

/// One secret, the same.
#[utoipa::path(get, path = "/admin/secrets/{name}", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")), responses((status = 200, body = Entry),
    (status = 422, description = "The files on disk can't be read")))]
pub(super) async fn secret(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Json<Entry>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.with_press(|press| inventory::one(press, &name))).await.map(Json)
}

/// Sets a secret's next value. It waits for a publication.
#[utoipa::path(put, path = "/admin/secrets/{name}", tag = "secrets", request_body = NewValue,
    params(("name" = String, Path, description = "The secret's name")), responses((status = 200, body = Entry),
    (status = 409, description = "The release says otherwise: whose values there are, or where they come from")))]
pub(super) async fn set(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Sealed(new): Sealed<NewValue>,
) -> Result<(Extension<Noted>, Json<Entry>), Refusal> {
    allow(&actor, Right::Secrets)?;
    let whose = Whose { machine: new.machine, role: new.role };
    let noted = noted(&whose, "set, waits for a publication");
    let work = move || leader.with_press(|press| inventory::set(press, &name, &whose, &new.value, &actor.name));
    blocking(work).await.map(|entry| (noted, Json(entry)))
}

/// Makes a secret's next value, or values. They wait for a publication.
#[utoipa::path(post, path = "/admin/secrets/{name}/rotate", tag = "secrets", request_body = Rotation,
    params(("name" = String, Path, description = "The secret's name")), responses((status = 200, body = Entry),
    (status = 409, description = "The release says otherwise: whose values there are, or where they come from")))]
pub(super) async fn rotate(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Sealed(rotation): Sealed<Rotation>,
) -> Result<(Extension<Noted>, Json<Entry>), Refusal> {
    allow(&actor, Right::Secrets)?;
    let whose = Whose { machine: rotation.machine, role: rotation.role };
    let noted = noted(&whose, "made anew, waits for a publication");
    let work = move || leader.with_press(|press| inventory::rotate(press, &name, &whose, &actor.name));
    blocking(work).await.map(|entry| (noted, Json(entry)))
}

/// Forgets what was set or rotated and is not published yet.
#[utoipa::path(delete, path = "/admin/secrets/{name}/next", tag = "secrets",
    params(("name" = String, Path, description = "The secret's name")), responses((status = 200, body = Entry),
    (status = 422, description = "The files on disk can't be read")))]
pub(super) async fn discard(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
) -> Result<Json<Entry>, Refusal> {
    allow(&actor, Right::Secrets)?;
    blocking(move || leader.with_press(|press| inventory::discard(press, &name))).await.map(Json)
}

fn noted(whose: &Whose, what: &str) -> Extension<Noted> {
    let whose = match (&whose.machine, &whose.role) {
        (Some(machine), _) => format!("for machine {machine}: "),
        (_, Some(role)) => format!("for role {role}: "),
        _ => String::new(),
    };
    Extension(Noted(format!("{whose}{what}")))
}

impl From<SecretError> for Refusal {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Leader(error) => error.into(),
            SecretError::Unknown(why) => Problem::new(404, "not-found", "There is no such secret", why).into(),
            SecretError::Otherwise(why) => Problem::new(409, "otherwise", "The release says otherwise", why).into(),
            SecretError::Unfit(why) => Problem::new(422, "invalid", "The secret stays as it is", why).into(),
        }
    }
}
