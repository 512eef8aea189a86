//! SHA-256 as lowercase hex (bundles, files) and as RFC 9530 `Content-Digest`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// A SHA-256 value (FIPS 180-4); as text 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct Sha256(pub [u8; 32]);

/// Why a text is not a [`Sha256`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256: 64 lowercase hex digits are expected")]
pub struct BadDigest(pub String);

impl Sha256 {
    /// Hashes bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The value of an RFC 9530 `Content-Digest` header for content with this hash.
    pub fn content_digest(&self) -> String {
        let mut value = String::with_capacity(64);
        value.push_str("sha-256=:");
        STANDARD.encode_string(self.0, &mut value);
        value.push(':');
        value
    }

    /// Reads the `sha-256` member of a `Content-Digest` header; other
    /// algorithms beside it are passed over. `None` where there is none.
    pub fn from_content_digest(header: &str) -> Option<Self> {
        let bytes = crate::dictionary::bytes_member(header, "sha-256")?;
        Some(Self(bytes.as_slice().try_into().ok()?))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BadDigest;
    fn try_from(text: String) -> Result<Self, BadDigest> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut value = [0; 32];
        if text.len() != 64 {
            return Err(BadDigest(text));
        }
        for (byte, pair) in value.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            match (digit(pair[0]), digit(pair[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return Err(BadDigest(text)),
            }
        }
        Ok(Self(value))
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9530_example() {
        // RFC 9530, appendix D: the digest of {"hello": "world"} with a final newline.
        let digest = Sha256::of(b"{\"hello\": \"world\"}\n");
        assert_eq!(digest.content_digest(), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
        let among_others = format!("sha-512=:AAAA:, {}", digest.content_digest());
        assert_eq!(Sha256::from_content_digest(&among_others), Some(digest));
        assert_eq!(Sha256::from_content_digest("md5=:AAAA:"), None);
        assert_eq!(Sha256::from_content_digest("sha-256=:AAAA:"), None);
    }

    #[test]
    fn hex_round_trip() {
        let digest = Sha256::of(b"");
        assert_eq!(digest.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Sha256::try_from(digest.to_string()).unwrap(), digest);
        assert!(Sha256::try_from(digest.to_string().to_uppercase()).is_err());
    }
}
