//! Asks the leader to let this machine in, and says in words why it couldn't.

use crate::exit::{Failed, failed};
use crate::moment;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use lockstep_edge::client::{Address, address, builder, innermost};
use lockstep_edge::clock;
use lockstep_edge::tls::{self, Joining};
use lockstep_shared::Problem;
use lockstep_shared::join::{JoinRequest, JoinToken, Joined, Pin};
use std::time::Duration;
use zeroize::Zeroizing;

const CONNECT: Duration = Duration::from_secs(5);
/// A leader renders a revision for the new machine before it answers.
const ANSWER: Duration = Duration::from_mins(2);
/// Clocks that differ by so many seconds are told of.
const TOLD: i64 = 60;
/// The most that is read of an answer, in bytes.
const MOST: usize = 1024 * 1024;

/// Where an answer came from.
pub(super) struct From {
    /// The address that answered.
    pub(super) address: String,
    /// What the operator should know all the same.
    pub(super) notes: Vec<String>,
}

/// What a leader answered.
pub(super) enum Answer {
    /// The machine is a follower.
    Joined(Box<Joined>, From),
    /// Another follower is told of news at that address.
    UrlTaken(String),
}

/// The secret as it travels.
pub(super) fn secret(token: &JoinToken) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(token.secret.as_slice()))
}

/// Asks at each address in turn, until one answers. The leader is known by the
/// token before a byte of the request is sent.
pub(super) async fn ask(token: &JoinToken, request: &JoinRequest) -> Result<Answer, Failed> {
    let body = Zeroizing::new(serde_json::to_vec(request)?);
    let mut tried = Vec::new();
    for text in &token.addresses {
        let Some(at) = address(text) else {
            tried.push(format!("{text:?} is no address"));
            continue;
        };
        let private = at.https || (token.pin == Pin::Proxy && is_near(&at));
        if !private {
            tried.push(format!("{text} has no TLS: the token's secret is not sent there"));
            continue;
        }
        match once(token, text, &at, body.to_vec()).await {
            Ok((joined, from)) => return Ok(Answer::Joined(Box::new(joined), from)),
            Err(Trouble::UrlTaken(why)) => return Ok(Answer::UrlTaken(why)),
            Err(Trouble::Refused(why)) => return Err(failed(why)),
            Err(Trouble::Unreached(why)) => tried.push(why),
        }
    }
    Err(failed(format!(
        "this machine has not joined, and nothing was changed on the leader:\n  {}",
        tried.join("\n  ")
    )))
}

enum Trouble {
    /// The leader said no: another address would say the same.
    Refused(String),
    /// It would take this machine, but not at that address.
    UrlTaken(String),
    /// It was not there.
    Unreached(String),
}

fn is_near(at: &Address) -> bool {
    at.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn once(token: &JoinToken, text: &str, at: &Address, body: Vec<u8>) -> Result<(Joined, From), Trouble> {
    let setup = |error: &dyn std::fmt::Display| Trouble::Refused(format!("TLS could not be set up: {error}"));
    let mut client = builder().connect_timeout(CONNECT).timeout(ANSWER);
    client = match token.pin {
        Pin::Authority(hash) => {
            let joining = Joining::new(hash);
            client.tls_backend_preconfigured(joining.client().map_err(|error| setup(&error))?)
        }
        Pin::Proxy if !at.https => client.tls_certs_only([]),
        Pin::Proxy => client,
    };
    let client = client.build().map_err(|error| setup(&error))?;
    let sent = client.post(format!("{text}/join")).header("content-type", "application/json").body(body).send().await;
    let answer = sent.map_err(|error| Trouble::Unreached(unreached(text, at, &error)))?;
    let status = answer.status();
    let difference = answer.headers().get("date").and_then(|date| date.to_str().ok()).and_then(moment::http_date);
    let difference = difference.map(|there| there - clock::now()).filter(|difference| difference.abs() > TOLD);
    let clocks = difference.map(clocks);
    let content = match answer.bytes().await {
        Ok(content) if content.len() <= MOST => Zeroizing::new(content.to_vec()),
        Ok(_) => return Err(Trouble::Refused(format!("{text} answered more than a leader does"))),
        Err(error) => {
            return Err(Trouble::Unreached(format!(
                "{text}: the answer broke off ({}): type the same again, the leader knows this machine by its key",
                innermost(&error)
            )));
        }
    };
    if status.is_success() {
        let joined = serde_json::from_slice(&content)
            .map_err(|_| Trouble::Refused(stranger(text, status.as_u16(), token.pin)))?;
        return Ok((joined, From { address: text.to_owned(), notes: clocks.into_iter().collect() }));
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(&content) else {
        return Err(Trouble::Refused(stranger(text, status.as_u16(), token.pin)));
    };
    let mut why = match problem.short_kind() {
        "not-found" | "method-not-allowed" => {
            format!("{text} is a leader of a version that lets no machine join, or no leader at all")
        }
        _ => format!("{}: {}", problem.title, problem.detail),
    };
    if let Some(clocks) = clocks {
        why += &format!("\n{clocks}");
    }
    Err(if problem.short_kind() == "join-url-taken" { Trouble::UrlTaken(why) } else { Trouble::Refused(why) })
}

fn clocks(difference: i64) -> String {
    let (seconds, way) = (difference.unsigned_abs(), if difference > 0 { "behind" } else { "ahead of" });
    let told = if seconds >= 120 { format!("{} min", seconds / 60) } else { format!("{seconds} s") };
    format!("this machine's clock is {told} {way} the leader's: set it (timedatectl set-ntp true)")
}

fn stranger(text: &str, status: u16, pin: Pin) -> String {
    match pin {
        Pin::Proxy => format!(
            "{text} answered {status}, but not as a leader does: does the proxy there pass /join on to the leader, and is the leader running?"
        ),
        Pin::Authority(_) => {
            format!(
                "{text} answered {status}, but not as a leader does: is it of the same version (lockstep --version)?"
            )
        }
    }
}

/// Why nothing came back, and what to do about it.
fn unreached(text: &str, at: &Address, error: &reqwest::Error) -> String {
    if let Some(why) = tls::why(error) {
        return format!("{text}: {why}");
    }
    let (host, port) = (&at.host, at.port);
    let open = format!("TCP port {port} of {host} has to be open to this machine");
    if error.is_timeout() {
        return if error.is_connect() {
            format!(
                "{text}: no answer within {} s: does a firewall stand in between? {open}; is that the leader's address?",
                CONNECT.as_secs()
            )
        } else {
            format!(
                "{text}: it took the request and did not answer within {} s: type the same again, the leader knows this machine by its key",
                ANSWER.as_secs()
            )
        };
    }
    let cause = innermost(error);
    match kind(error) {
        Some(std::io::ErrorKind::ConnectionRefused) => format!(
            "{text}: nobody listens there, or a firewall refuses it ({cause}): is the leader running (on it: systemctl status lockstep-leader; ss -ltn)? {open}"
        ),
        Some(std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable) => {
            format!("{text}: there is no way to {host} ({cause}): see ip route get {host}")
        }
        _ if cause.contains("lookup") || cause.contains("resolve") || cause.contains("Name or service") => {
            format!("{text}: the name {host} isn't known here ({cause}): see getent hosts {host}")
        }
        _ => format!("{text} was not reached: {cause}"),
    }
}

fn kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut cause = Some(error);
    let mut found = None;
    while let Some(error) = cause {
        found = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or(found);
        cause = error.source();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_told_by_how_much_and_which() {
        assert_eq!(
            clocks(1200),
            "this machine's clock is 20 min behind the leader's: set it (timedatectl set-ntp true)"
        );
        assert!(clocks(-90).contains("90 s ahead of"), "{}", clocks(-90));
    }
}
