//! Randomness, from the operating system and nowhere else.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// `N` random bytes.
///
/// # Panics
/// If the operating system has none to give: nothing that needs a secret may go on then.
#[allow(clippy::expect_used)]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A nonce for one signature: 16 random bytes, base64url.
pub fn nonce() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// A fraction from 0 (included) to 1 (excluded).
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
