//! Join tokens: all that a machine needs to find its leader, to know that it
//! is the right one, and to be let in once. One line of text.
//!
//! `lockstep_join_v1_` and base64url (RFC 4648 section 5, no padding) of:
//!
//! | bytes | |
//! |---|---|
//! | 1 | flags: 1 = TLS is a proxy's, verified by the system's roots; no hash of a CA follows |
//! | 6 | id: public, names the token in lists and in the audit |
//! | 32 | secret |
//! | 32 | SHA-256 of the CA's `SubjectPublicKeyInfo` (DER), unless flag 1 |
//! | 1 | number of addresses |
//! | 1 + n each | an address's length and text |
//! | 4 | the first bytes of SHA-256 over the prefix and all bytes before: tells a slip of the pen from a wrong token |

use crate::{Name, Sha256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// What every join token begins with: for those who scan for leaked ones.
pub const PREFIX: &str = "lockstep_join_";
/// The version that this program makes.
const VERSION: &str = "v1_";
const BEHIND_PROXY: u8 = 1;
const CHECK: usize = 4;
/// The longest text that is looked at, in bytes.
const LONGEST: usize = 4096;
/// The most addresses that a token holds.
pub const MOST_ADDRESSES: usize = 16;
/// The longest address, in bytes.
pub const LONGEST_ADDRESS: usize = 255;

/// A token's public id, as text 12 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 6]);

/// How the leader is known to be the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// By its CA: the SHA-256 of that CA's `SubjectPublicKeyInfo`.
    Authority(Sha256),
    /// By the system's roots: a proxy in front of it has a certificate of its own.
    Proxy,
}

/// A join token, read.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its public id.
    pub id: TokenId,
    /// What lets the machine in; the leader keeps only its SHA-256.
    pub secret: Zeroizing<[u8; 32]>,
    /// What the leader is known by.
    pub pin: Pin,
    /// Where the leader is reached, in the order to try them.
    pub addresses: Vec<String>,
}

/// `POST /join`, a machine to the leader: over TLS, after the leader's CA was compared with the token's hash.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token's public id.
    pub id: String,
    /// The token's secret, base64url without padding.
    pub secret: Zeroizing<String>,
    /// What the machine is to be called.
    pub name: Name,
    /// The role that it wants.
    pub role: Name,
    /// A certificate signing request (PKCS#10, RFC 2986) in PEM: the machine's own key pair, which never leaves it.
    pub csr: String,
    /// Where the leader reaches it; without, it only polls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What templates see as `machine.addresses`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The version of its lockstep.
    #[serde(default)]
    pub version: String,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinRequest({} as {}, token {}, hidden)", self.name, self.role, self.id)
    }
}

/// The answer to a [`JoinRequest`]: all that the machine needs from now on, and nothing of another's.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joined {
    /// Its name.
    pub name: Name,
    /// Its role.
    pub role: Name,
    /// The key that it shares with the leader, 43 characters of base64url.
    pub key: Zeroizing<String>,
    /// Its certificate and those up to the CA, in PEM; empty from a leader without a CA.
    #[serde(default)]
    pub certificate: String,
    /// The CAs that it is to trust, each in PEM.
    #[serde(default)]
    pub authorities: Vec<String>,
    /// Where it reaches the leader from now on, in the order to try them.
    #[serde(default)]
    pub addresses: Vec<String>,
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Joined({} as {}, hidden)", self.name, self.role)
    }
}

/// Why a text is no join token. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Something else altogether.
    #[error(
        "this is no join token: one begins with lockstep_join_ and is made on the leader (lockstep tokens create --role ROLE)"
    )]
    Other,
    /// An API token.
    #[error(
        "this is an API token, which lets people in, not machines: lockstep tokens create --role ROLE makes a join token, on the leader"
    )]
    Api,
    /// Of a version that this program doesn't know.
    #[error(
        "this join token is of another version ({0}): this machine's lockstep has to be as new as the leader's (lockstep --version)"
    )]
    Version(String),
    /// Letters are missing or changed.
    #[error("this join token was not copied as a whole, or with a slip of the pen: copy the line again")]
    Misspelt,
}

impl JoinToken {
    /// Reads the text form; white space around it is passed over.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(BadToken::Misspelt);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with("lockstep_") { BadToken::Api } else { BadToken::Other });
        };
        let Some(payload) = rest.strip_prefix(VERSION) else {
            let version = rest.split('_').next().unwrap_or_default();
            let newer = version.len() > 1
                && version.starts_with('v')
                && version[1..].bytes().all(|byte| byte.is_ascii_digit())
                && version.len() < 5;
            return Err(if newer { BadToken::Version(version.to_owned()) } else { BadToken::Misspelt });
        };
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadToken::Misspelt)?);
        let (bytes, check) = bytes.split_last_chunk::<CHECK>().ok_or(BadToken::Misspelt)?;
        if checksum(bytes) != *check {
            return Err(BadToken::Misspelt);
        }
        fields(bytes).ok_or(BadToken::Misspelt)
    }

    /// The text form: shown once, kept nowhere.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        let proxied = self.pin == Pin::Proxy;
        bytes.push(if proxied { BEHIND_PROXY } else { 0 });
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(self.secret.as_slice());
        if let Pin::Authority(hash) = self.pin {
            bytes.extend_from_slice(&hash.0);
        }
        let addresses = || self.addresses.iter().filter(|address| fits(address)).take(MOST_ADDRESSES);
        bytes.push(u8::try_from(addresses().count()).unwrap_or_default());
        for address in addresses() {
            bytes.push(u8::try_from(address.len()).unwrap_or_default());
            bytes.extend_from_slice(address.as_bytes());
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        Zeroizing::new(format!("{PREFIX}{VERSION}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }

    /// The secret's hash: what the leader keeps.
    pub fn hash(&self) -> Sha256 {
        Sha256::of(self.secret.as_slice())
    }
}

/// Whether an address can stand in a token: printable ASCII, not too long.
fn fits(address: &str) -> bool {
    (1..=LONGEST_ADDRESS).contains(&address.len()) && address.bytes().all(|byte| byte.is_ascii_graphic())
}

fn fields(bytes: &[u8]) -> Option<JoinToken> {
    let (flags, bytes) = bytes.split_first()?;
    let (id, bytes) = bytes.split_first_chunk::<6>()?;
    let (secret, mut bytes) = bytes.split_first_chunk::<32>()?;
    let pin = match *flags {
        0 => {
            let (hash, rest) = bytes.split_first_chunk::<32>()?;
            bytes = rest;
            Pin::Authority(Sha256(*hash))
        }
        BEHIND_PROXY => Pin::Proxy,
        _ => return None,
    };
    let (count, mut bytes) = bytes.split_first()?;
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (length, rest) = bytes.split_first()?;
        let (address, rest) = rest.split_at_checked(usize::from(*length))?;
        let address = std::str::from_utf8(address).ok().filter(|address| fits(address))?;
        addresses.push(address.to_owned());
        bytes = rest;
    }
    let whole = bytes.is_empty() && (1..=MOST_ADDRESSES).contains(&addresses.len());
    whole.then(|| JoinToken { id: TokenId(*id), secret: Zeroizing::new(*secret), pin, addresses })
}

fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let told = Zeroizing::new([PREFIX.as_bytes(), VERSION.as_bytes(), bytes].concat());
    let mut check = [0; CHECK];
    check.copy_from_slice(&Sha256::of(&told).0[..CHECK]);
    check
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, hidden)", self.id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for TokenId {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let mut id = [0; 6];
        if text.len() != 12 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(BadToken::Misspelt);
        }
        for (place, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| BadToken::Misspelt)?;
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn token(pin: Pin, addresses: &[&str]) -> JoinToken {
        JoinToken {
            id: TokenId([1, 2, 3, 0xab, 5, 6]),
            secret: Zeroizing::new([7; 32]),
            pin,
            addresses: addresses.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn goes_there_and_back() {
        for pin in [Pin::Authority(Sha256([9; 32])), Pin::Proxy] {
            let token = token(pin, &["https://192.0.2.10:7000", "https://[2001:db8::1]:7000"]);
            let text = token.reveal();
            assert!(text.starts_with("lockstep_join_v1_") && text.bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(JoinToken::parse(&format!(" {}\n", *text)).unwrap(), token);
        }
        assert_eq!("010203ab0506".parse::<TokenId>().unwrap().to_string(), "010203ab0506");
        assert!("010203AB0506".parse::<TokenId>().is_err());
    }

    #[test]
    fn every_slip_is_told_from_a_wrong_token() {
        let good = token(Pin::Authority(Sha256([9; 32])), &["https://a:1"]).reveal();
        let start = PREFIX.len() + VERSION.len();
        for place in start..good.len() {
            let mut slip = good.as_bytes().to_vec();
            slip[place] = if slip[place] == b'x' { b'y' } else { b'x' };
            let slip = String::from_utf8(slip).unwrap();
            assert_eq!(JoinToken::parse(&slip), Err(BadToken::Misspelt));
            assert_eq!(JoinToken::parse(&good[..place]), Err(BadToken::Misspelt));
        }
        assert_eq!(JoinToken::parse("lockstep_abc"), Err(BadToken::Api));
        assert_eq!(JoinToken::parse("hunter2"), Err(BadToken::Other));
        assert_eq!(JoinToken::parse("lockstep_join_v2_AAAA"), Err(BadToken::Version("v2".to_owned())));
        assert_eq!(JoinToken::parse("lockstep_join_v1AAAA"), Err(BadToken::Misspelt));
        assert_eq!(JoinToken::parse(""), Err(BadToken::Other));
    }

    #[test]
    fn nothing_shows_the_secret() {
        let token = token(Pin::Proxy, &["https://a:1"]);
        assert_eq!(format!("{token:?}"), "JoinToken(010203ab0506, hidden)");
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = JoinToken::parse(&text);
            let mut sealed = bytes.clone();
            sealed.extend_from_slice(&checksum(&bytes));
            let text = format!("{PREFIX}{VERSION}{}", URL_SAFE_NO_PAD.encode(&sealed));
            if let Ok(token) = JoinToken::parse(&text) {
                // What is taken is written in one way only.
                let again = token.reveal();
                prop_assert_eq!(again.as_str(), text.as_str());
            }
        }

        #[test]
        fn whatever_is_made_is_read(
            id in any::<[u8; 6]>(), secret in any::<[u8; 32]>(), pin in any::<Option<[u8; 32]>>(),
            addresses in proptest::collection::vec("https://[a-z0-9.]{1,60}:[0-9]{1,5}", 1..=MOST_ADDRESSES),
        ) {
            let pin = pin.map_or(Pin::Proxy, |hash| Pin::Authority(Sha256(hash)));
            let token = JoinToken { id: TokenId(id), secret: Zeroizing::new(secret), pin, addresses };
            let read = JoinToken::parse(&token.reveal());
            prop_assert!(read == Ok(token));
        }
    }
}
