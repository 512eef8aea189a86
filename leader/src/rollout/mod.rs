//! How a published revision reaches its machines: who is offered it when, who
//! may restart when, what a failure stops. `strategy.rs`, `waves.rs`,
//! `state.rs`, `report.rs`, `lease.rs` and `step.rs` with its parts `turn.rs`
//! and `wish.rs` decide and are pure; `conductor.rs` is what others hold,
//! `conduct.rs` does what was decided, `push.rs` tells followers.

mod conduct;
mod conductor;
mod events;
pub mod lease;
mod push;
pub mod report;
pub mod state;
pub mod step;
pub mod strategy;
#[cfg(test)]
mod tests;
mod turn;
mod view;
pub mod waves;
mod wish;

pub use conductor::{Conductor, Fresh, Hands, Launch, Standing};
pub(crate) use conductor::{bundles, digests};
pub use events::{Changed, Events};
pub use push::Pushes;
