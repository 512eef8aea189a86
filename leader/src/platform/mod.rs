//! What a platform says: the settings a release knows, and the values that
//! this platform and its machines give them.

pub mod edit;
pub mod edited;
pub mod editor;
pub mod formats;
#[cfg(test)]
mod fuzz;
pub mod references;
pub mod schema;
pub mod values;
pub mod wording;
pub mod words;

pub use schema::{Scope, Setting, Settings};
pub use values::{Given, Platform, SecretValues};
