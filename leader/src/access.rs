//! API tokens: named, with rights, shown once, kept as a hash. Passwords and
//! sessions will come in beside them: all that the rest knows is an [`Actor`].

use crate::store::{Store, StoreError, StoredToken};
use crate::who::{Actor, How, Right};
use lockstep_edge::{clock, random};
use lockstep_shared::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock};
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// What every token begins with: for those who scan for leaked ones.
pub const PREFIX: &str = "lockstep_";
/// Characters of randomness: 62^43 is more than 2^256.
const RANDOM: usize = 43;
/// Characters of the checksum behind them: a slip of the pen is told from a wrong token.
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Failures of one peer, within `WINDOW` seconds, that are still answered in full.
const FAILURES: u32 = 60;
const WINDOW: i64 = 60;
/// Peers that are counted at once.
const PEERS: usize = 10_000;
/// How exactly a last use is kept, in seconds.
const MINUTE: i64 = 60;

/// A token as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its number: what the audit calls it.
    pub id: i64,
    /// Its name: who acts with it.
    pub name: String,
    /// What may be done with it.
    pub rights: Vec<Right>,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// By whom.
    pub author: String,
    /// When it ends; never, if left out.
    pub expires: Option<i64>,
    /// When it was last used, to the minute.
    pub used: Option<i64>,
    /// Whether it has ended.
    pub expired: bool,
}

/// Why somebody doesn't get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It is no token at all, or misspelt.
    Misspelt,
    /// Unknown, or revoked.
    Unknown,
    /// It has ended.
    Expired,
}

/// The tokens of a leader, and who tried in vain.
pub struct Access {
    store: Mutex<Store>,
    tokens: RwLock<Vec<StoredToken>>,
    failures: Failures<IpAddr>,
    refusals: Failures<i64>,
}

impl Access {
    /// With a connection of its own.
    pub fn new(store: Store) -> Result<Self, StoreError> {
        let tokens = RwLock::new(store.tokens()?);
        Ok(Self { store: Mutex::new(store), tokens, failures: Failures::default(), refusals: Failures::default() })
    }

    /// Who comes with this token. Every known token is compared, in constant time.
    pub fn admit(&self, token: &str) -> Result<Actor, Denied> {
        if !well_formed(token) {
            return Err(Denied::Misspelt);
        }
        let (hash, now) = (Sha256::of(token.as_bytes()), clock::now());
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for known in tokens.iter_mut() {
            if bool::from(known.hash.ct_eq(&hash.0)) {
                found = Some(known);
            }
        }
        let known = found.ok_or(Denied::Unknown)?;
        if known.expires.is_some_and(|end| end <= now) {
            return Err(Denied::Expired);
        }
        let stale = known.used.is_none_or(|used| now - used >= MINUTE);
        if stale {
            known.used = Some(now);
        }
        let (id, actor) = (
            known.id,
            Actor { name: known.name.clone(), how: How::Token { id: known.id }, rights: known.rights.clone() },
        );
        drop(tokens);
        if stale && let Err(error) = self.store.lock().unwrap_or_else(PoisonError::into_inner).token_used(id, now) {
            tracing::warn!(%error, token = id, "a token's last use can't be noted");
        }
        Ok(actor)
    }

    /// Makes a token: itself, to be shown once, and what is known of it. `None` where the name is taken.
    pub fn create(
        &self,
        name: &str,
        rights: &[Right],
        seconds: Option<u64>,
        author: &str,
    ) -> Result<Option<(Zeroizing<String>, Token)>, StoreError> {
        let text = Zeroizing::new(make());
        let now = clock::now();
        let mut rights = rights.to_vec();
        rights.sort();
        rights.dedup();
        let mut token = StoredToken {
            id: 0,
            name: name.to_owned(),
            hash: Sha256::of(text.as_bytes()).0.to_vec(),
            rights,
            created: now,
            author: author.to_owned(),
            expires: seconds.map(|seconds| now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX))),
            used: None,
        };
        let put = self.store.lock().unwrap_or_else(PoisonError::into_inner).put_token(&token)?;
        let Some(id) = put else { return Ok(None) };
        token.id = id;
        let seen = shown(&token, now);
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.push(token);
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some((text, seen)))
    }

    /// Every token.
    pub fn list(&self) -> Vec<Token> {
        let now = clock::now();
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).iter().map(|token| shown(token, now)).collect()
    }

    /// Ends a token at once; what it was, or `None` where there is none.
    pub fn revoke(&self, name: &str) -> Result<Option<Token>, StoreError> {
        let gone = self.store.lock().unwrap_or_else(PoisonError::into_inner).drop_token(name)?;
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let place = tokens.iter().position(|token| token.name == name);
        let token = place.map(|place| shown(&tokens.remove(place), clock::now()));
        Ok(token.filter(|_| gone))
    }

    /// Counts a failure of this peer; the seconds to wait, where it has failed too often.
    pub fn failed(&self, peer: IpAddr) -> Option<i64> {
        self.failures.count(network(peer), clock::now())
    }

    /// Counts a refusal of something that a token may not do.
    pub fn refused(&self, id: i64) -> Option<i64> {
        self.refusals.count(id, clock::now())
    }

    /// The seconds to wait, where a token was refused too often.
    pub fn tired_of(&self, id: i64) -> Option<i64> {
        self.refusals.left(&id, clock::now())
    }
}

/// Counts in spans of [`WINDOW`] seconds.
struct Failures<K>(Mutex<HashMap<K, (i64, u32)>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: std::hash::Hash + Eq> Failures<K> {
    fn count(&self, key: K, now: i64) -> Option<i64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PEERS {
            all.retain(|_, (since, _)| (0..WINDOW).contains(&(now - *since)));
            if all.len() >= PEERS {
                return Some(WINDOW);
            }
        }
        let (since, count) = all.entry(key).or_insert((now, 0));
        if !(0..WINDOW).contains(&(now - *since)) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count > FAILURES).then(|| WINDOW - (now - *since))
    }

    fn left(&self, key: &K, now: i64) -> Option<i64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = all.get(key)?;
        ((0..WINDOW).contains(&(now - since)) && *count >= FAILURES).then(|| WINDOW - (now - since))
    }
}

/// Whose failures are counted together: an address, or what one customer has of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn shown(token: &StoredToken, now: i64) -> Token {
    Token {
        id: token.id,
        name: token.name.clone(),
        rights: token.rights.clone(),
        created: token.created,
        author: token.author.clone(),
        expires: token.expires,
        used: token.used,
        expired: token.expires.is_some_and(|end| end <= now),
    }
}

fn make() -> String {
    let mut text = PREFIX.to_owned();
    while text.len() < PREFIX.len() + RANDOM {
        // The largest multiple of 62 in a byte: every digit is as likely as any other.
        for byte in random::bytes::<64>().into_iter().filter(|byte| *byte < 248) {
            if text.len() < PREFIX.len() + RANDOM {
                text.push(char::from(DIGITS[usize::from(byte) % DIGITS.len()]));
            }
        }
    }
    let check = checksum(&text);
    text + &check
}

fn checksum(text: &str) -> String {
    let mut number =
        Sha256::of(text.as_bytes()).0.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    let digit = |_| {
        let digit = DIGITS[usize::try_from(number % 62).unwrap_or(0)];
        number /= 62;
        char::from(digit)
    };
    (0..CHECK).map(digit).collect()
}

fn well_formed(token: &str) -> bool {
    token.len() == PREFIX.len() + RANDOM + CHECK
        && token.starts_with(PREFIX)
        && token.bytes().skip(PREFIX.len()).all(|byte| DIGITS.contains(&byte))
        && checksum(&token[..PREFIX.len() + RANDOM]) == token[PREFIX.len() + RANDOM..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(folder: &std::path::Path) -> Access {
        Access::new(Store::open(folder).unwrap()).unwrap()
    }

    #[test]
    fn tokens_are_made_used_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let one = access(folder.path());
        let (text, token) = one.create("ci", &[Right::Publish, Right::Read, Right::Read], None, "me").unwrap().unwrap();
        assert!(well_formed(&text), "{}", *text);
        assert_eq!((token.rights, token.used), (vec![Right::Read, Right::Publish], None));
        assert!(one.create("ci", &[], None, "me").unwrap().is_none());
        let actor = one.admit(&text).unwrap();
        assert_eq!((actor.name.as_str(), actor.how), ("ci", How::Token { id: token.id }));
        assert!(one.list()[0].used.is_some());
        drop(one);
        let again = access(folder.path());
        assert!(again.admit(&text).unwrap().may(Right::Publish));
        assert!(again.revoke("ci").unwrap().is_some());
        assert_eq!(again.admit(&text), Err(Denied::Unknown));
        assert!(again.revoke("ci").unwrap().is_none());
        let (_, next) = again.create("ci", &[Right::Read], None, "me").unwrap().unwrap();
        assert_ne!(next.id, token.id, "the audit names tokens by number");
        let (short, _) = again.create("short", &[Right::Read], Some(0), "me").unwrap().unwrap();
        assert_eq!(again.admit(&short), Err(Denied::Expired));
    }

    #[test]
    fn slips_are_told_from_wrong_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let access = access(folder.path());
        let good = make();
        assert_eq!(access.admit(&good), Err(Denied::Unknown));
        for place in PREFIX.len()..good.len() {
            let mut slip = good.clone().into_bytes();
            slip[place] = if slip[place] == b'x' { b'y' } else { b'x' };
            assert_eq!(access.admit(&String::from_utf8(slip).unwrap()), Err(Denied::Misspelt));
        }
        for wrong in ["", "lockstep_", "Bearer", &good[..good.len() - 1], &format!("{good}0"), &"é".repeat(29)] {
            assert_eq!(access.admit(wrong), Err(Denied::Misspelt));
        }
    }

    #[test]
    fn who_fails_often_waits() {
        let failures = Failures::default();
        for _ in 0..FAILURES {
            assert_eq!(failures.count(1, 100), None);
        }
        assert_eq!(
            (failures.count(1, 110), failures.left(&1, 110), failures.count(2, 110)),
            (Some(50), Some(50), None)
        );
        assert_eq!((failures.left(&1, 160), failures.count(1, 160)), (None, None));
        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap());
        assert_eq!(network(a), network(b));
    }
}
