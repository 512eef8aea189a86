//! Names that have to resolve.

use super::{Finding, Level, fine, found};
use std::net::{IpAddr, ToSocketAddrs as _};

/// A name, and what the resolver says of it.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) host: String,
    /// What it is for: `leader.url`, ...
    pub(super) place: String,
    /// How bad it is where it doesn't resolve.
    pub(super) level: Level,
    pub(super) answer: Result<Vec<IpAddr>, String>,
}

/// Asks the system's resolver; `None` for an address, which needs none.
pub(super) fn gather(host: &str, place: impl Into<String>, level: Level) -> Option<Facts> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let answer = (host, 0).to_socket_addrs().map_err(|error| error.to_string());
    let answer = answer.map(|addresses| addresses.map(|address| address.ip()).collect());
    Some(Facts { host: host.to_owned(), place: place.into(), level, answer })
}

pub(super) fn judge(facts: &Facts) -> Finding {
    let (host, place) = (&facts.host, &facts.place);
    match &facts.answer {
        Ok(addresses) if !addresses.is_empty() => {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            fine("names", format!("{host} ({place}) is {}", all.join(", ")))
        }
        answer => {
            let why = answer.as_ref().err().map_or("it has no address", String::as_str);
            found(
                "names",
                facts.level,
                format!("{host} ({place}) doesn't resolve here: {why}"),
                "who goes by that name doesn't get there",
                format!("getent hosts {host}; correct DNS, /etc/hosts, or {place}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_an_address_or_is_told() {
        assert!(gather("192.0.2.1", "leader.url", Level::Broken).is_none());
        assert!(gather("[::1]", "leader.url", Level::Broken).is_none());
        assert_eq!(judge(&gather("localhost", "leader.url", Level::Broken).unwrap()).level, Level::Fine);
        let nowhere = judge(&gather("no-such-name.invalid", "leader.url", Level::Broken).unwrap());
        assert_eq!(nowhere.level, Level::Broken);
        assert!(nowhere.fix.starts_with("getent hosts no-such-name.invalid"));
    }
}
