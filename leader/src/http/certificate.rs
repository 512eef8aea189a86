//! `POST /certificate`: a follower's own certificate, or the next. Who asks is
//! told by the signature, so that one whose certificate has ended gets another.

use super::problem;
use crate::authority::AuthorityError;
use crate::leader::Leader;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use lockstep_edge::gate::{Reply, json, reply};
use lockstep_shared::Name;
use lockstep_shared::api::CertificateRequest;
use std::sync::Arc;

pub(super) async fn issue(leader: Arc<Leader>, request: Request<Incoming>) -> Reply {
    let admitted = match leader.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    let bad = |detail: String| {
        reply(&problem(StatusCode::BAD_REQUEST, "bad-request", "No certificate can be made of this", detail))
    };
    let asked: CertificateRequest = match serde_json::from_slice(&admitted.body) {
        Ok(asked) => asked,
        Err(error) => return admitted.seal.sign(bad(format!("expected {{\"csr\": \"<PEM>\"}}: {error}"))),
    };
    let Ok(name) = Name::new(admitted.seal.keyid()) else {
        return admitted.seal.sign(bad("the key's name is no machine's".to_owned()));
    };
    let issued = leader.authority.issue(&asked.csr, &name);
    let answer = match issued {
        Ok(issued) => {
            tracing::info!(machine = %name, "a certificate was issued");
            json(StatusCode::OK, &issued)
        }
        Err(error @ AuthorityError::Request(_)) => bad(error.to_string()),
        Err(error @ AuthorityError::Off) => {
            reply(&problem(StatusCode::NOT_FOUND, "not-found", "There is no authority here", error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, machine = %name, "a certificate could not be issued");
            reply(&problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "No certificate was made", error.to_string()))
        }
    };
    admitted.seal.sign(answer)
}
