//! What crosses the line between leader and follower, defined once.
//!
//! Everything here is a value or a pure function: no I/O, no async, no clock
//! and no randomness of its own. Types that are named here can't hold a bad
//! value, so a room that receives one need not check it again.

pub mod api;
pub mod bundle;
pub mod canonical;
mod dictionary;
pub mod digest;
mod escape;
pub mod fields;
pub mod join;
pub mod key;
pub mod name;
pub mod on_change;
pub mod on_drift;
pub mod path;
pub mod permissions;
pub mod problem;
pub mod rollout;
pub mod signature;
pub mod volume;

pub use bundle::{Bundle, File};
pub use digest::Sha256;
pub use fields::Fields;
pub use key::Key;
pub use name::Name;
pub use on_change::OnChange;
pub use on_drift::OnDrift;
pub use path::SafePath;
pub use permissions::{Mode, Owner};
pub use problem::Problem;
pub use volume::VolumePath;
