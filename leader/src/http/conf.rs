//! `GET /conf`, `/conf/{role}` and `/conf/{role}/{path}`: rendered
//! configuration from memory, for followers; and for people on the unix socket.

use super::problem;
use crate::leader::Leader;
use crate::published::{Coded, Coding, Encoded, Published, Served, etag};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use lockstep_edge::gate::{Admitted, Reply, Seal, reply};
use lockstep_edge::lane::{Head, Outcome};
use lockstep_edge::trace::CAUSE;
use lockstep_shared::bundle::DELTA;
use lockstep_shared::fields::{Fields, text};
use lockstep_shared::signature::CONTENT_DIGEST;
use lockstep_shared::{Problem, Sha256};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a request is held, in seconds.
const LONGEST_WAIT: u64 = 600;
/// A follower takes a request that is answered sooner for one that was not held.
const HELD: Duration = Duration::from_millis(1200);

/// Who asks.
pub(super) enum Asker<'a> {
    /// A follower: it sees its own configuration and nothing else.
    Follower(&'a str),
    /// A person with the right to see all.
    Admin,
}

/// A follower's signed request.
pub(super) async fn signed(leader: Arc<Leader>, request: Request<Incoming>) -> Reply {
    let admitted = match leader.admit(request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    let Admitted { head, seal, .. } = admitted;
    let outcome = sealed(&leader, seal, head.uri.path(), head.uri.query(), &head.headers);
    // What a held request came with lies in the buffer that it was read into: thousands of them add up.
    drop(head);
    match outcome {
        Outcome::Now(answer) => answer,
        Outcome::Later(answer) => answer.await,
    }
}

/// The same, of which only the head was read: it has no body.
pub(super) fn of_head(leader: &Arc<Leader>, head: &Head<'_>) -> Outcome {
    let seal = match leader.gate.admit_head(&head.parts()) {
        Ok(seal) => seal,
        Err(refused) => return Outcome::Now(refused),
    };
    let news = Leader::news(&seal).map(|news| (news, leader.clone(), seal.clone()));
    let outcome = sealed(leader, seal, head.path, head.query, &head.fields);
    let Some((news, leader, seal)) = news else { return outcome };
    Outcome::Later(Box::pin(async move {
        match (leader.prove(&seal, news).await, outcome) {
            (Err(failed), _) => failed,
            (Ok(()), Outcome::Now(answer)) => answer,
            (Ok(()), Outcome::Later(answer)) => answer.await,
        }
    }))
}

/// What a follower is answered, signed.
fn sealed(leader: &Arc<Leader>, seal: Seal, path: &str, query: Option<&str>, fields: &impl Fields) -> Outcome {
    leader.reports.seen(seal.keyid());
    match answer(leader, &Asker::Follower(seal.keyid()), path, query, fields) {
        Ok(Answer::Now(answer)) => Outcome::Now(seal.sign(answer)),
        Ok(Answer::Later(held)) => {
            let leader = leader.clone();
            Outcome::Later(Box::pin(async move {
                seal.sign(held.changed(&leader).await.unwrap_or_else(|problem| reply(&problem)))
            }))
        }
        Err(problem) => Outcome::Now(seal.sign(reply(&problem))),
    }
}

/// An answer, not yet signed.
pub(super) enum Answer {
    /// This one.
    Now(Reply),
    /// One that waits for news.
    Later(Held),
}

/// What is answered at once, and what is to be held.
pub(super) fn answer(
    leader: &Leader,
    asker: &Asker<'_>,
    path: &str,
    query: Option<&str>,
    headers: &impl Fields,
) -> Result<Answer, Problem> {
    let query = Query::parse(query)?;
    let (role, file) = target(path)?;
    let published = leader.published();
    let served = permitted(&published, asker, role.as_deref(), query.machine.as_deref())?;
    let remembered = || published.remembered.get(&served.bundle.machine).filter(|tag| matches(headers, tag));
    let now = if let Some(file) = file {
        one_file(&served, &file, headers)?
    } else {
        let known = if matches(headers, &served.etag) { Some(&served.etag) } else { remembered() };
        match (known, query.wait) {
            (None, _) => told(leader, &served, whole(&served, &Wanted::of(headers))),
            (Some(known), Some(wait)) => {
                let known = known.clone();
                return Ok(Answer::Later(Held { served, known, wait, wanted: Wanted::of(headers) }));
            }
            (Some(_), None) => not_modified(&served),
        }
    };
    Ok(Answer::Now(now))
}

/// The answer, once there is one.
pub(super) async fn finished(leader: &Leader, answer: Result<Answer, Problem>) -> Result<Reply, Problem> {
    match answer? {
        Answer::Now(reply) => Ok(reply),
        // Boxed, so that the many requests that are answered at once stay small.
        Answer::Later(held) => Box::pin(held.changed(leader)).await,
    }
}

/// A request that waits until there is something else than what was served.
pub(super) struct Held {
    served: Arc<Served>,
    /// The tag that is named.
    known: HeaderValue,
    wait: Duration,
    wanted: Wanted,
}

impl Held {
    /// Holds it until there is something else, or the time is over.
    async fn changed(self, leader: &Leader) -> Result<Reply, Problem> {
        let Self { served, known, wait, wanted } = self;
        let machine = &served.bundle.machine;
        let _place = leader.waits.take(machine, leader.config.limits.waits_per_follower)?;
        let (mut published, mut stop) = (leader.published.subscribe(), leader.stop.clone());
        let began = tokio::time::Instant::now();
        let settled = !leader.roster.is_rotating(machine.as_str());
        let news = async {
            loop {
                // Looked at before waiting: it may have changed since the first look.
                let seen = published.borrow_and_update().clone();
                if let Some(problem) = leader.gate.barred(machine.as_str()) {
                    return Err(problem);
                }
                let now = find(&seen, machine.as_str())?;
                if !seen.is_known(&now, &known) {
                    return Ok(Some(now));
                }
                // A held request that ends early makes a follower report, and so hear of its new key.
                if settled && leader.roster.is_rotating(machine.as_str()) {
                    Box::pin(tokio::time::sleep_until(began + HELD)).await;
                    return Ok(None);
                }
                // A leader that publishes again doesn't keep what it published before for their sake.
                drop((seen, now));
                tokio::select! {
                    changed = published.changed() => if changed.is_err() { return Ok(None) },
                    () = lockstep_edge::server::stopped(&mut stop) => return Ok(None),
                }
            }
        };
        match tokio::time::timeout(wait, news).await {
            Ok(Ok(Some(now))) => Ok(told(leader, &now, whole(&now, &wanted))),
            Ok(Err(problem)) => Err(problem),
            Ok(Ok(None)) | Err(_) => Ok(not_modified(&served)),
        }
    }
}

/// In what form somebody wants a bundle.
struct Wanted {
    tar: bool,
    coding: Coding,
    /// What they have, where they take what is different from it.
    base: Option<Sha256>,
}

impl Wanted {
    fn of(headers: &impl Fields) -> Self {
        Self { tar: accepts_tar(headers), coding: coding(headers), base: base(headers) }
    }
}

/// Says which request published what is sent, so that its name is found on the machine too.
fn told(leader: &Leader, served: &Served, mut answer: Reply) -> Reply {
    let cause = leader.pushes.cause(served.number());
    if let Some(value) = cause.and_then(|cause| HeaderValue::from_str(cause.as_str()).ok()) {
        answer.headers_mut().insert(CAUSE, value);
    }
    answer
}

/// A part of a path, decoded, where it is there.
type Part<'p> = Option<Cow<'p, str>>;

/// The role and the file that a path names; a follower may leave the role out.
fn target(path: &str) -> Result<(Part<'_>, Part<'_>), Problem> {
    let rest = path.strip_prefix("/conf").unwrap_or_default().trim_start_matches('/');
    if rest.is_empty() {
        return Ok((None, None));
    }
    let decode = |text| {
        percent_decode_str(text).decode_utf8().map_err(|_| {
            problem(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The address can't be read",
                "its percent-encoding is not UTF-8",
            )
        })
    };
    match rest.split_once('/') {
        None => Ok((Some(decode(rest)?), None)),
        Some((role, "")) => Ok((Some(decode(role)?), None)),
        Some((role, file)) => Ok((Some(decode(role)?), Some(decode(file)?))),
    }
}

/// The view that is asked for, if the asker may see it.
fn permitted(
    published: &Published,
    asker: &Asker<'_>,
    role: Option<&str>,
    machine: Option<&str>,
) -> Result<Arc<Served>, Problem> {
    let name = match asker {
        Asker::Follower(name) => *name,
        Asker::Admin => return any(published, role, machine),
    };
    let forbidden = |detail: String| problem(StatusCode::FORBIDDEN, "forbidden", "This is not yours to see", detail);
    if machine.is_some_and(|machine| machine != name) {
        return Err(forbidden(format!("{name} sees no other machine's configuration")));
    }
    let own = find(published, name)?;
    let own_role = &own.bundle.role;
    if role.is_some_and(|role| role != own_role.as_str()) {
        return Err(forbidden(format!("{name} has the role {own_role} and sees no other one's configuration")));
    }
    Ok(own)
}

/// What an admin asks for: a machine's, or that of the first machine of a role.
fn any(published: &Published, role: Option<&str>, machine: Option<&str>) -> Result<Arc<Served>, Problem> {
    let fits = |served: &&Arc<Served>| {
        role.is_none_or(|role| served.bundle.role.as_str() == role)
            && machine.is_none_or(|machine| served.bundle.machine.as_str() == machine)
    };
    let found = published.served.values().filter(fits).min_by(|a, b| a.bundle.machine.cmp(&b.bundle.machine));
    found.cloned().ok_or_else(|| {
        let detail = format!("no machine {} of role {}", machine.unwrap_or("at all"), role.unwrap_or("any"));
        problem(StatusCode::NOT_FOUND, "not-found", "There is no such configuration", detail)
    })
}

fn find(published: &Published, machine: &str) -> Result<Arc<Served>, Problem> {
    published.served.get(machine).cloned().ok_or_else(|| {
        let detail = format!(
            "revision {} has nothing for {machine}: on the leader, lockstep followers list says whether it follows, and lockstep publish what is missing",
            published.revision.number
        );
        problem(StatusCode::FORBIDDEN, "forbidden", "There is nothing for this machine", detail)
    })
}

fn whole(served: &Served, wanted: &Wanted) -> Reply {
    if !wanted.tar
        && let Some(base) = &wanted.base
        && let Some(delta) = served.delta(base)
    {
        return of_delta(&etag(base), delta, &served.etag);
    }
    let (body, content_type) =
        if wanted.tar { (served.tar(), "application/x-tar") } else { (served.json(), "application/json") };
    let mut answer = of_encoded(body.get(wanted.coding), content_type, &served.etag);
    let name = match wanted.coding {
        Coding::Identity => return answer,
        Coding::Gzip => "gzip",
        Coding::Zstd => "zstd",
    };
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    answer
}

/// What somebody has, if they say so and take deltas (RFC 3229).
fn base(headers: &impl Fields) -> Option<Sha256> {
    let accepted = headers.first("a-im")?;
    accepted.split(',').find(|im| im.split(';').next().unwrap_or_default().trim() == DELTA)?;
    let tag = headers.first("if-none-match")?;
    Sha256::try_from(tag.trim_matches('"').to_owned()).ok()
}

/// 226 IM Used (RFC 3229 section 10.4.1).
fn of_delta(base: &HeaderValue, delta: &Coded, etag: &HeaderValue) -> Reply {
    let mut answer = of_encoded(delta.get(Coding::Identity), "application/json", etag);
    *answer.status_mut() = StatusCode::IM_USED;
    answer.headers_mut().insert("im", HeaderValue::from_static(DELTA));
    answer.headers_mut().insert("delta-base", base.clone());
    answer
}

fn of_encoded(body: &Encoded, content_type: &'static str, etag: &HeaderValue) -> Reply {
    let mut answer = Response::new(Full::new(body.bytes.clone()));
    let headers = answer.headers_mut();
    headers.reserve(8);
    headers.insert(CONTENT_DIGEST, body.digest.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ETAG, etag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, a-im"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    answer
}

fn not_modified(served: &Served) -> Reply {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    answer.headers_mut().insert(header::ETAG, served.etag.clone());
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, a-im"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    answer
}

fn one_file(served: &Served, path: &str, headers: &impl Fields) -> Result<Reply, Problem> {
    let Some(file) = served.bundle.file(path) else {
        let detail = format!("{} has no file {path:?}", served.bundle.role);
        return Err(problem(StatusCode::NOT_FOUND, "not-found", "There is no such file", detail));
    };
    let tag = etag(&file.sha256);
    if matches(headers, &tag) {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().insert(header::ETAG, tag);
        return Ok(answer);
    }
    let text = std::str::from_utf8(&file.content).is_ok();
    let guess = match path.rsplit_once('.') {
        // RFC 9512, later than the table of guesses.
        Some((_, "yml" | "yaml")) => Some("application/yaml"),
        _ => mime_guess::from_path(path).first_raw(),
    };
    let content_type = match (guess, text) {
        (Some(kind), true) if kind.starts_with("text/") => format!("{kind}; charset=utf-8"),
        (Some(kind), _) => kind.to_owned(),
        (None, true) => "text/plain; charset=utf-8".to_owned(),
        (None, false) => "application/octet-stream".to_owned(),
    };
    let mut answer = Response::new(Full::new(Bytes::from_owner(file.content.clone())));
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::try_from(file.sha256.content_digest()) {
        headers.insert(CONTENT_DIGEST, value);
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::try_from(content_type).unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    headers.insert(header::ETAG, tag);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(answer)
}

/// Whether `If-None-Match` names the tag (RFC 9110 section 13.1.2: weak comparison).
fn matches(headers: &impl Fields, etag: &HeaderValue) -> bool {
    headers.lines("if-none-match").any(|line| {
        line == etag.as_bytes()
            || text(line).is_some_and(|line| {
                line.split(',')
                    .map(str::trim)
                    .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_bytes())
            })
    })
}

/// Whether the client would rather have a tar than JSON.
fn accepts_tar(headers: &impl Fields) -> bool {
    let Some(accept) = headers.first("accept") else { return false };
    let tar = ["application/x-tar", "application/tar"].iter().map(|kind| weight(accept, kind)).fold(0.0, f32::max);
    let json = ["application/json", "application/*", "*/*"].iter().map(|kind| weight(accept, kind)).fold(0.0, f32::max);
    tar > json || (tar > 0.0 && !accept.contains("json") && tar >= json)
}

/// The best coding that the client takes: zstd over gzip over none, at equal weight.
fn coding(headers: &impl Fields) -> Coding {
    let Some(accept) = headers.first("accept-encoding") else { return Coding::Identity };
    let (zstd, gzip) = (weight(accept, "zstd"), weight(accept, "gzip"));
    if zstd > 0.0 && zstd >= gzip {
        Coding::Zstd
    } else if gzip > 0.0 {
        Coding::Gzip
    } else {
        Coding::Identity
    }
}

/// The weight that a list like `gzip;q=0.5, zstd` gives a name (RFC 9110 section 12.4.2); 0 where it isn't named.
fn weight(list: &str, name: &str) -> f32 {
    let mut weight = 0.0;
    for item in list.split(',') {
        let mut parts = item.split(';').map(str::trim);
        if parts.next().is_some_and(|item| item.eq_ignore_ascii_case(name)) {
            let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            weight = q.map_or(1.0, |q| q.parse().unwrap_or(0.0));
        }
    }
    weight
}

#[derive(Default)]
struct Query {
    machine: Option<String>,
    wait: Option<Duration>,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "machine" => parsed.machine = Some(value),
                "wait" => parsed.wait = Some(wait(&value)?),
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// `60s`, `2m` or plain seconds.
fn wait(text: &str) -> Result<Duration, Problem> {
    let (number, factor) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => (text, 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| number.parse::<u64>().ok()?.checked_mul(factor)).flatten();
    match seconds {
        Some(seconds) if seconds <= LONGEST_WAIT => Ok(Duration::from_secs(seconds)),
        _ => Err(problem(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The wait can't be used",
            format!("wait={text} is not a time of at most {LONGEST_WAIT} s: write e.g. wait=60s or wait=5m"),
        )),
    }
}
