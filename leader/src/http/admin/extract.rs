//! What handlers take from requests: as axum's own extractors, but whatever
//! doesn't fit is a problem body that says what and where.

use super::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use lockstep_shared::Problem;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};

/// A JSON body, in or out.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        parse(&read(request, state).await?).map(Self).map_err(Refusal::from)
    }
}

/// A JSON body that holds a secret: what is wrong with it is told without a word of it.
pub(super) struct Sealed<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sealed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = read(request, state).await?;
        parse(&body).map(Self).map_err(|told| {
            let detail = "it is not of the form that /openapi.json describes; what stands there is not shown, since it is secret";
            let told = ["line", "column"].into_iter().filter_map(|name| Some((name, told.members.get(name)?.clone())));
            told.fold(misread(detail.to_owned()), |problem, (name, value)| problem.with(name, value)).into()
        })
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !is_json(kind) {
        let detail = format!("the body has to be JSON: send content-type: application/json (it is {kind:?})");
        return Err(Problem::new(415, "unsupported-media-type", "The body is not JSON", detail).into());
    }
    Bytes::from_request(request, state).await.map_err(|broken| unread(&broken))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be taken for an object's values in order, which no document says.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(misread("an object is expected, in {}".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let about = if place == "." { String::new() } else { format!("{place}: ") };
        placed(misread(format!("{about}{}", error.inner())), error.inner()).with("pointer", pointer(error.path()))
    })?;
    json.end().map_err(|error| placed(misread(error.to_string()), &error))?;
    Ok(value)
}

fn placed(problem: Problem, error: &serde_json::Error) -> Problem {
    problem.with("line", error.line()).with("column", error.column())
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query, by name.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|rejection| {
            let why = std::error::Error::source(&rejection).map_or_else(|| rejection.body_text(), ToString::to_string);
            Problem::new(400, "bad-request", "The query can't be read", why).into()
        })
    }
}

/// What the address names.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|rejection| {
            Problem::new(400, "bad-request", "The address can't be read", rejection.body_text()).into()
        })
    }
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn misread(why: String) -> Problem {
    Problem::new(400, "bad-request", "The body can't be read", why)
}

fn unread(rejection: &BytesRejection) -> Refusal {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            let detail = "it is larger than limits.bodyBytes of config-leader.json";
            Problem::new(413, "too-large", "The body is too large", detail).into()
        }
        other => misread(other.body_text()).into(),
    }
}

/// A JSON pointer (RFC 6901) to what was wrong.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    };
    path.iter().map(step).collect()
}

/// A whole number, also where it is written with a fraction of zero: JSON Schema takes `90.0` for an integer.
pub(super) fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    whole_or_none(deserializer)?.ok_or_else(|| serde::de::Error::custom(WHOLE))
}

/// The same, or null.
pub(super) fn whole_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let text = number.to_string();
    let zeros = |rest: &str| rest.bytes().all(|byte| byte == b'0');
    let whole = text.split_once('.').filter(|(_, rest)| zeros(rest)).map_or(&*text, |(whole, _)| whole);
    whole.parse().map(Some).map_err(|_| serde::de::Error::custom(WHOLE))
}

const WHOLE: &str = "a whole number, not below 0, is expected";
