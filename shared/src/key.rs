//! A follower's symmetric key: 32 bytes that can't be printed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer};
use std::fmt;
use zeroize::Zeroizing;

/// 32 bytes shared by the leader and one follower, in files base64url without
/// padding (43 characters). Neither `Debug` nor any serializer shows them.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    /// HMAC state with the key block already absorbed, so that a signature costs two compressions less.
    prepared: Hmac<sha2::Sha256>,
}

/// Why a text is not a [`Key`]. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a key: 43 characters of base64url (32 bytes, no padding) are expected, {0} characters came")]
pub struct BadKey(pub usize);

impl Key {
    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { prepared: prepare(&bytes), bytes: Zeroizing::new(bytes) }
    }

    /// Reads the text form; white space around it is passed over.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new);
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
        bytes.map(Self::from_bytes).ok_or(BadKey(text.chars().count()))
    }

    /// The text form, for writing it into a file of mode 0600 and nowhere else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.bytes.as_slice()))
    }

    /// HMAC-SHA256 (RFC 2104) of a message under this key.
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = self.prepared.clone();
        mac.update(message);
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the HMAC of `message`, compared in constant time.
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        let mut mac = self.prepared.clone();
        mac.update(message);
        mac.verify_slice(tag).is_ok()
    }
}

#[allow(clippy::expect_used)]
fn prepare(bytes: &[u8]) -> Hmac<sha2::Sha256> {
    Hmac::new_from_slice(bytes).expect("HMAC takes a key of any length")
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// HMAC-SHA256 under a key of any length: for published test vectors only.
#[cfg(test)]
pub(crate) fn mac_with(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = prepare(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shown() {
        let key = Key::from_bytes([7; 32]);
        let text = key.reveal();
        assert_eq!(text.len(), 43);
        assert!(!format!("{key:?}").contains(text.as_str()));
        assert!(Key::parse(&format!(" {}\n", text.as_str())).unwrap().verify(b"m", &key.mac(b"m")));
        let refused = Key::parse("hunter2").unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
