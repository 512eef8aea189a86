//! `lockstep version`.

use super::{print, print_json};
use crate::exit::{Done, Failed};

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(json: bool) -> Result<Done, Failed> {
    if json {
        print_json(&serde_json::json!({
            "version": VERSION, "os": std::env::consts::OS, "architecture": std::env::consts::ARCH,
        }))?;
    } else {
        print(&format!("lockstep {VERSION}\n"))?;
    }
    Ok(Done::Good)
}
