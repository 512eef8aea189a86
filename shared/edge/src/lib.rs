//! The rim that leader and follower share: every effect that both need is
//! done here, once, in one way. Nothing here knows a template or a container.

pub mod backoff;
pub mod client;
pub mod clock;
pub mod durable;
pub mod gate;
pub mod key;
pub mod lane;
pub mod limits;
pub mod listen;
mod loops;
pub mod metrics;
mod nonces;
pub mod random;
pub mod secrecy;
pub mod server;
pub mod settings;
pub mod tls;
pub mod trace;

pub use client::{Answer, CallError, Client, Trust};
pub use gate::{Gate, Seal};
pub use limits::Limits;
