//! `/healthz`, `/readyz` and `/metrics`: for whoever watches the leader.

use crate::leader::Leader;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use lockstep_edge::gate::Reply;
use lockstep_shared::api::State;
use std::fmt::Write as _;

pub(super) fn serve(leader: &Leader, path: &str) -> Reply {
    let text = match path {
        "/metrics" => metrics(leader),
        // A leader listens only once it has a revision to serve.
        _ => "ok\n".to_owned(),
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    let kind =
        if path == "/metrics" { "text/plain; version=0.0.4; charset=utf-8" } else { "text/plain; charset=utf-8" };
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// Prometheus' text format 0.0.4. No setting's value is ever a label.
fn metrics(leader: &Leader) -> String {
    let fleet = leader.reports.fleet(&leader.published(), &leader.config.members.now());
    let mut out = String::new();
    let _ = write!(
        out,
        "# HELP lockstep_published_revision The revision that is served.\n# TYPE lockstep_published_revision gauge\nlockstep_published_revision {}\n\
         # HELP lockstep_followers Followers by what they last reported.\n# TYPE lockstep_followers gauge\n",
        fleet.revision
    );
    let state = |wanted: Option<State>| {
        fleet.machines.iter().filter(|machine| machine.status.as_ref().map(|status| status.state) == wanted).count()
    };
    for (name, wanted) in [
        ("silent", None),
        ("new", Some(State::New)),
        ("applying", Some(State::Applying)),
        ("applied", Some(State::Applied)),
        ("failed", Some(State::Failed)),
    ] {
        let _ = writeln!(out, "lockstep_followers{{state=\"{name}\"}} {}", state(wanted));
    }
    let current = fleet.machines.iter().filter(|machine| {
        machine
            .status
            .as_ref()
            .and_then(|status| status.running.as_ref())
            .is_some_and(|running| running.digest == machine.wanted)
    });
    let _ = write!(
        out,
        "# HELP lockstep_followers_current Followers that run what is published.\n# TYPE lockstep_followers_current gauge\nlockstep_followers_current {}\n",
        current.count()
    );
    out
}
