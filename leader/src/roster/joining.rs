//! Whether a machine may join: a pure decision, and then doing it, once.

use super::members::Roll;
use super::tokens::State;
use super::{Member, Roster};
use crate::config::FILE;
use crate::store::{StoreError, StoredFollower, StoredJoinToken, Used};
use lockstep_edge::client::address;
use lockstep_edge::{clock, random};
use lockstep_shared::join::JoinRequest;
use lockstep_shared::{Key, Name, Problem, Sha256};
use std::net::{IpAddr, Ipv6Addr};
use subtle::ConstantTimeEq as _;

/// The most addresses that a machine tells of itself.
const ADDRESSES: usize = 64;
/// The longest text of a field, in bytes.
const LONGEST: usize = 255;

/// A request to join, with what its certificate signing request says.
pub struct Asked<'a> {
    /// What was asked for.
    pub request: &'a JoinRequest,
    /// SHA-256 of the secret that came.
    pub hash: Sha256,
    /// SHA-256, in hex, of the public key that the machine made.
    pub public: String,
    /// Where it came from.
    pub from: IpAddr,
}

/// What a request to join comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It joins with this token.
    Joins(Box<StoredJoinToken>),
    /// It joined before, and its answer was lost: the same again.
    Again(Box<StoredFollower>),
}

/// Judges a request. `token` is the one with its id, `roles` are those of the
/// published release. The error is what the machine is answered.
pub fn judge(
    asked: &Asked<'_>,
    token: Option<&StoredJoinToken>,
    roll: &Roll,
    roles: &[Name],
    now: i64,
) -> Result<Verdict, Problem> {
    let JoinRequest { name, role, .. } = asked.request;
    let refused = |kind: &str, title: &str, detail: String| Err(Problem::new(403, kind, title, detail));
    let token = known(asked, token)?;
    if let Some(used) = &token.used {
        let again = roll.get(&used.by).and_then(|member| member.joined.as_ref());
        let again = again.filter(|joined| {
            joined.token == token.id
                && joined.public == asked.public
                && joined.signed.is_none()
                && joined.disabled.is_none()
        });
        if let Some(joined) = again.filter(|joined| joined.name == *name && joined.role == *role) {
            return Ok(Verdict::Again(Box::new(joined.clone())));
        }
        return refused(
            "join-token-used",
            "The token was used before",
            format!(
                "{} joined with it at {}, from {}: a token lets in one machine; make another: lockstep tokens create --role {}{}",
                used.by,
                clock::rfc3339(used.at),
                used.from,
                token.role,
                if used.by == *name {
                    format!(
                        ". If that was this machine and its files are lost: lockstep followers remove {name} first. If it was not: lockstep followers disable {name}"
                    )
                } else {
                    format!(". If that was not you: lockstep followers disable {}", used.by)
                }
            ),
        );
    }
    match token.state(now) {
        State::Revoked => {
            let at = token.revoked.as_ref().map(|revoked| clock::rfc3339(revoked.at)).unwrap_or_default();
            return refused(
                "join-token-revoked",
                "The token was revoked",
                format!("it was taken back at {at}; make another: lockstep tokens create --role {}", token.role),
            );
        }
        State::Expired => {
            return refused(
                "join-token-expired",
                "The token has expired",
                format!(
                    "it ended at {}, and it is {} here; make another: lockstep tokens create --role {}",
                    clock::rfc3339(token.expires),
                    clock::rfc3339(now),
                    token.role
                ),
            );
        }
        State::Open | State::Used | State::Outdated => {}
    }
    if token.role != *role {
        return refused(
            "join-other-role",
            "The token is for another role",
            format!(
                "it lets in a machine of the role {}, not {role}: say --role {}, or make another: lockstep tokens create --role {role}",
                token.role, token.role
            ),
        );
    }
    if let Some(bound) = token.name.as_ref().filter(|bound| *bound != name) {
        return refused(
            "join-other-name",
            "The token is for another machine",
            format!(
                "it lets in a machine named {bound}, not {name}: say --name {bound}, or make one without a name: lockstep tokens create --role {role}"
            ),
        );
    }
    if !roles.contains(role) {
        let all: Vec<&str> = roles.iter().map(Name::as_str).collect();
        let detail = format!(
            "the published release has no templates for the role {role}; it has: {}. A token for one of these: lockstep tokens create --role ROLE",
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        );
        return Err(Problem::new(422, "join-no-such-role", "There is nothing for this role", detail));
    }
    if let Some(member) = roll.get(name) {
        return Err(taken(member));
    }
    let url = asked.request.url.as_ref();
    if let Some(other) = roll.values().find(|member| url.is_some() && member.url.as_ref() == url) {
        let detail = format!(
            "{} is told of news at {} already: say another address or port (--listen IP:PORT), or --no-listen",
            other.name,
            url.map(String::as_str).unwrap_or_default()
        );
        return Err(Problem::new(409, "join-url-taken", "Another follower listens there", detail));
    }
    Ok(Verdict::Joins(Box::new(token.clone())))
}

/// The token, if the secret is its own. An unknown id and a wrong secret are
/// answered alike: ids are no secret, and tell nothing.
fn known<'t>(asked: &Asked<'_>, token: Option<&'t StoredJoinToken>) -> Result<&'t StoredJoinToken, Problem> {
    token.filter(|token| bool::from(token.hash.0.ct_eq(&asked.hash.0))).ok_or_else(|| {
        let detail = "this leader doesn't know the token: it was made on another leader, or before this one was restored from a backup; make a new one here: lockstep tokens create --role ROLE";
        Problem::new(403, "join-token-unknown", "The token is not known", detail)
    })
}

fn taken(member: &Member) -> Problem {
    let name = &member.name;
    let detail = match &member.joined {
        None => format!(
            "{name} is declared in {FILE} of the leader: take another name (--name), or take followers.{name} out of that file and restart the leader"
        ),
        Some(joined) => format!(
            "a machine joined as {name} at {}, from {}{}: take another name (--name); or, where this one takes its place, on the leader: lockstep followers remove {name}",
            clock::rfc3339(joined.joined),
            joined.from,
            if joined.disabled.is_some() { ", and is disabled" } else { "" }
        ),
    };
    Problem::new(409, "join-name-taken", "The name is taken", detail)
}

/// Refuses what a machine says of itself where it can't be so.
pub fn check(request: &JoinRequest) -> Result<(), Problem> {
    let wrong = |what: String| Problem::new(422, "join-invalid", "The machine can't join like this", what);
    if request.addresses.len() > ADDRESSES {
        return Err(wrong(format!(
            "it says {} addresses of itself: at most {ADDRESSES} are kept",
            request.addresses.len()
        )));
    }
    if let Some(bad) = request.addresses.iter().find(|address| address.parse::<IpAddr>().is_err()) {
        let shown: String = bad.chars().take(60).collect();
        return Err(wrong(format!("{shown:?} is not an IP address")));
    }
    if let Some(url) = &request.url {
        let at = address(url).filter(|at| at.https && at.port != 0 && url.len() <= LONGEST);
        // As it would be written out: one listener has one spelling.
        let plain = at.is_some_and(|at| match at.host.parse::<Ipv6Addr>() {
            Ok(_) => *url == format!("https://[{}]:{}", at.host, at.port),
            Err(_) => *url == format!("https://{}:{}", at.host, at.port),
        });
        if !plain {
            return Err(wrong("its url is not of the form https://ADDRESS:PORT".to_owned()));
        }
    }
    Ok(())
}

impl Roster {
    /// Refuses a request whose token is not known.
    pub fn knows(&self, asked: &Asked<'_>) -> Result<Result<(), Problem>, StoreError> {
        let token = self.store().join_tokens()?.into_iter().find(|token| token.id == asked.request.id);
        Ok(known(asked, token.as_ref()).map(|_| ()))
    }

    /// Judges a request and does it; of several with one token, one joins.
    /// `noted` hears of it before it is done, and what it can't write down is
    /// not done. Durable on return.
    pub fn join(
        &self,
        asked: &Asked<'_>,
        roles: &[Name],
        noted: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<Result<StoredFollower, Problem>, StoreError> {
        let store = self.store();
        let now = clock::now();
        let token = store.join_tokens()?.into_iter().find(|token| token.id == asked.request.id);
        match judge(asked, token.as_ref(), &self.members.now(), roles, now) {
            Err(problem) => Ok(Err(problem)),
            Ok(Verdict::Again(follower)) => Ok(Ok(*follower)),
            Ok(Verdict::Joins(mut token)) => {
                noted()?;
                let request = asked.request;
                let follower = StoredFollower {
                    name: request.name.clone(),
                    role: request.role.clone(),
                    url: request.url.clone(),
                    addresses: request.addresses.clone(),
                    key: Key::from_bytes(random::bytes()).reveal(),
                    keyed: now,
                    next: None,
                    joined: now,
                    token: token.id.clone(),
                    from: asked.from.to_string(),
                    public: asked.public.clone(),
                    certificate_ends: None,
                    signed: None,
                    disabled: None,
                };
                token.used = Some(Used { at: now, by: request.name.clone(), from: asked.from.to_string() });
                store.join(&token, &follower)?;
                self.settle(&follower)?;
                Ok(Ok(follower))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Disabled, Revoked};
    use std::sync::Arc;
    use zeroize::Zeroizing;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn request() -> JoinRequest {
        JoinRequest {
            id: "0102".to_owned(),
            secret: Zeroizing::new("s".to_owned()),
            name: name("core-3"),
            role: name("core"),
            csr: String::new(),
            url: None,
            addresses: Vec::new(),
            version: String::new(),
        }
    }

    fn token() -> StoredJoinToken {
        StoredJoinToken {
            id: "0102".to_owned(),
            hash: Sha256::of(b"secret"),
            role: name("core"),
            name: None,
            created: 0,
            author: "me".to_owned(),
            expires: 100,
            authority: None,
            used: None,
            revoked: None,
        }
    }

    fn follower() -> StoredFollower {
        StoredFollower {
            name: name("core-3"),
            role: name("core"),
            url: None,
            addresses: Vec::new(),
            key: Zeroizing::new("k".to_owned()),
            keyed: 5,
            next: None,
            joined: 5,
            token: "0102".to_owned(),
            from: "192.0.2.7".to_owned(),
            public: "aa".to_owned(),
            certificate_ends: None,
            signed: None,
            disabled: None,
        }
    }

    fn roll(members: &[StoredFollower]) -> Roll {
        members.iter().map(|one| (one.name.clone(), Arc::new(Member::from(one.clone())))).collect()
    }

    fn asked<'a>(request: &'a JoinRequest, secret: &[u8], public: &str) -> Asked<'a> {
        Asked { request, hash: Sha256::of(secret), public: public.to_owned(), from: "192.0.2.7".parse().unwrap() }
    }

    /// The kind of the refusal, or how it is let in; and the words.
    fn verdict(request: &JoinRequest, token: Option<&StoredJoinToken>, roll: &Roll, now: i64) -> (String, String) {
        match judge(&asked(request, b"secret", "aa"), token, roll, &[name("core"), name("web")], now) {
            Ok(Verdict::Joins(_)) => ("joins".to_owned(), String::new()),
            Ok(Verdict::Again(_)) => ("again".to_owned(), String::new()),
            Err(problem) => (problem.short_kind().to_owned(), problem.detail),
        }
    }

    #[test]
    fn every_misuse_has_words_of_its_own() {
        let (good, none) = (request(), Roll::new());
        let of = |kind: &str, (found, words): (String, String), wanted: &str| {
            assert_eq!(found, kind, "{words}");
            assert!(words.contains(wanted), "{words}");
        };
        of("joins", verdict(&good, Some(&token()), &none, 99), "");
        of("join-token-unknown", verdict(&good, None, &none, 1), "another leader");
        let wrong = judge(&asked(&good, b"guess", "aa"), Some(&token()), &none, &[name("core")], 1).unwrap_err();
        let unknown = judge(&asked(&good, b"secret", "aa"), None, &none, &[name("core")], 1).unwrap_err();
        assert_eq!(wrong, unknown, "nobody learns whether an id is known");
        of("join-token-expired", verdict(&good, Some(&token()), &none, 100), "1970-01-01T00:01:40Z");
        let revoked = StoredJoinToken { revoked: Some(Revoked { at: 3, by: "bob".to_owned() }), ..token() };
        of("join-token-revoked", verdict(&good, Some(&revoked), &none, 1), "taken back");
        let other = JoinRequest { role: name("web"), ..request() };
        of("join-other-role", verdict(&other, Some(&token()), &none, 1), "--role core");
        let bound = StoredJoinToken { name: Some(name("core-9")), ..token() };
        of("join-other-name", verdict(&good, Some(&bound), &none, 1), "--name core-9");
        let strange = (JoinRequest { role: name("db"), ..request() }, StoredJoinToken { role: name("db"), ..token() });
        of("join-no-such-role", verdict(&strange.0, Some(&strange.1), &none, 1), "core, web");
        of("join-name-taken", verdict(&good, Some(&token()), &roll(&[follower()]), 1), "followers remove core-3");
        let mut file = Roll::new();
        file.insert(name("core-3"), Arc::new(Member { joined: None, ..follower().into() }));
        of("join-name-taken", verdict(&good, Some(&token()), &file, 1), "config-leader.json");
        let url = Some("https://192.0.2.7:6000".to_owned());
        let there = roll(&[StoredFollower { name: name("core-2"), url: url.clone(), ..follower() }]);
        of("join-url-taken", verdict(&JoinRequest { url, ..request() }, Some(&token()), &there, 1), "core-2");
        of("joins", verdict(&good, Some(&token()), &there, 1), "");
    }

    #[test]
    fn only_the_same_machine_hears_the_answer_again_and_only_until_it_signed() {
        let used = |by: &str| StoredJoinToken {
            used: Some(Used { at: 5, by: name(by), from: "192.0.2.7".to_owned() }),
            ..token()
        };
        let kind =
            |follower: StoredFollower, now| verdict(&request(), Some(&used("core-3")), &roll(&[follower]), now).0;
        assert_eq!(kind(follower(), 6), "again");
        assert_eq!(kind(follower(), 1000), "again", "its time may be over by then");
        assert_eq!(kind(StoredFollower { public: "bb".to_owned(), ..follower() }, 6), "join-token-used");
        assert_eq!(kind(StoredFollower { signed: Some(7), ..follower() }, 8), "join-token-used");
        assert_eq!(kind(StoredFollower { token: "0203".to_owned(), ..follower() }, 8), "join-token-used");
        let out = Disabled { at: 7, by: "bob".to_owned() };
        assert_eq!(kind(StoredFollower { disabled: Some(out), ..follower() }, 8), "join-token-used");
        let (found, words) = verdict(&request(), Some(&used("core-4")), &Roll::new(), 6);
        assert_eq!(found, "join-token-used");
        assert!(words.contains("core-4 joined") && words.contains("192.0.2.7"), "{words}");
    }

    #[test]
    fn what_a_machine_says_of_itself_is_looked_at() {
        let good = JoinRequest { url: Some("https://192.0.2.7:6000".to_owned()), ..request() };
        assert!(check(&good).is_ok());
        for url in [
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://a b",
            "192.0.2.7",
            "http://192.0.2.7:6000",
            "https://a:0",
            "https://a:b",
            "https://[",
            "https://127.0.0.1:06000",
            "https://127.1:6000",
            "https://0:6000",
        ] {
            assert!(check(&JoinRequest { url: Some(url.to_owned()), ..request() }).is_err(), "{url}");
        }
        assert!(check(&JoinRequest { addresses: vec!["x".to_owned()], ..request() }).is_err());
        assert!(check(&JoinRequest { addresses: vec!["::1".to_owned(); 65], ..request() }).is_err());
    }
}
