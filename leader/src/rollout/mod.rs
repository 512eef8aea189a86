//! How a published revision reaches its machines: who is offered it when, who
//! may restart when, what a failure stops. `strategy.rs`, `waves.rs`,
//! `state.rs`, `lease.rs` and `step.rs` decide and are pure; `conduct.rs` does
//! what they say, `push.rs` tells followers.

mod conduct;
mod events;
pub mod lease;
mod push;
pub mod state;
pub mod step;
pub mod strategy;
#[cfg(test)]
mod tests;
mod view;
pub mod waves;

pub use conduct::{Conductor, Fresh, Hands, Launch, Standing};
pub(crate) use conduct::{bundles, digests};
pub use events::{Changed, Events};
pub use push::Pushes;
