//! TLS of our own: version 1.3 only (RFC 8446), by rustls with ring, from the
//! platform's internal authority. It gives secrecy; who speaks is told by the
//! signatures on top.
//!
//! | file | does |
//! |---|---|
//! | `identity.rs` | the names that certificates carry |
//! | `certificate.rs` | reading certificates, keys and requests |
//! | `request.rs` | a key of one's own, and asking for a certificate |
//! | `acceptor.rs` | the server's side; the certificate can be replaced while it serves |
//! | `belief.rs` | what every client's side has in common |
//! | `pins.rs` | the client's side: chains to pinned authorities only, which can be replaced |
//! | `joining.rs` | the client's side where only the hash of an authority is known |
//! | `meeting.rs` | the client's side that only looks at which authority is shown |
//! | `refused.rs` | why a peer is not believed, in words |

mod acceptor;
mod belief;
mod certificate;
pub mod identity;
mod joining;
mod meeting;
mod pins;
mod refused;
mod request;

pub use acceptor::Acceptor;
pub use certificate::{BACKDATED, BadPem, Certificate, Identity, authorities, short};
pub use joining::Joining;
pub use meeting::Meeting;
pub use pins::Pins;
pub use refused::{Refused, why};
pub use request::{Requested, placeholder};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The one set of algorithms.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What every connection speaks (RFC 7301).
const ALPN: &[u8] = b"http/1.1";
