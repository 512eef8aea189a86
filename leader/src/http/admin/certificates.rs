//! Public certificates: showing and giving them. Never a key's value.

use super::audited::Noted;
use super::extract::{Json, Sealed};
use super::refusal::Refusal;
use super::{allow, blocking};
use crate::certificates::given::{self, CertificateError, Shown};
use crate::leader::Leader;
use crate::who::{Actor, Right};
use axum::Extension;
use axum::extract::State;
use lockstep_shared::Problem;
use lockstep_shared::api::Ending;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A certificate and its key.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewCertificate)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// The setting; left out: the only certificate of the release.
    name: Option<String>,
    /// The certificate, followed by its intermediates, PEM.
    certificate: String,
    /// The private key, PEM, without passphrase.
    #[schema(value_type = String, format = Password, write_only)]
    key: Zeroizing<String>,
}

/// Every public certificate, as the files on disk have it.
#[utoipa::path(get, path = "/admin/certificates", tag = "certificates", responses((status = 200, body = Vec<Shown>),
    (status = 422, description = "The files on disk can't be read")))]
pub(super) async fn list(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<Shown>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || leader.with_press(|press| given::list(press))).await.map(Json)
}

/// Takes a certificate and its key. They wait for a publication.
#[utoipa::path(put, path = "/admin/certificates", tag = "certificates", request_body = New, responses((status = 200, body = Shown),
    (status = 404, description = "The release has no such certificate"),
    (status = 409, description = "The environment gives the key"),
    (status = 422, description = "It doesn't fit; `errors` says all that is wrong")))]
pub(super) async fn set(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
    Sealed(new): Sealed<New>,
) -> Result<(Extension<Noted>, Json<Shown>), Refusal> {
    allow(&actor, Right::Secrets)?;
    allow(&actor, Right::Edit)?;
    let work = move || {
        leader.with_press(|press| given::set(press, new.name.as_deref(), &new.certificate, &new.key, &actor.name))
    };
    let shown = blocking(work).await?;
    let noted = format!("{} and {} set, wait for a publication", shown.name, shown.key);
    Ok((Extension(Noted(noted)), Json(shown)))
}

/// When the certificates in use end: the published ones, and those of TLS.
#[utoipa::path(get, path = "/admin/certificates/ends", tag = "certificates", responses((status = 200, body = Vec<Ending>)))]
pub(super) async fn ends(
    State(leader): State<Arc<Leader>>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Vec<Ending>>, Refusal> {
    allow(&actor, Right::Read)?;
    blocking(move || Ok::<_, CertificateError>(leader.ends())).await.map(Json)
}

impl From<CertificateError> for Refusal {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Leader(error) => error.into(),
            CertificateError::Key(error) => error.into(),
            CertificateError::Desk(error) => error.into(),
            CertificateError::Unknown(why) => {
                Problem::new(404, "not-found", "There is no such certificate", why).into()
            }
            CertificateError::Unfit { ref problems, .. } => {
                Problem::new(422, "invalid", "The certificate can't be used", error.to_string())
                    .with("errors", problems.clone())
                    .into()
            }
        }
    }
}
