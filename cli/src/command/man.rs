//! `lockstep man`: the manual pages, made from the same description as `--help`.

use super::say;
use crate::exit::{Done, Failed, failed};
use std::path::Path;

/// Writes `lockstep.1` and a page for each command into `out`, which is made if it isn't there.
pub(super) fn run(out: &Path) -> Result<Done, Failed> {
    let cannot = |error| failed(format!("the manual pages can't be written to {}: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(cannot)?;
    clap_mangen::generate_to(crate::help::command(), out).map_err(cannot)?;
    say(&format!("read them with: man -l {}", out.join("lockstep.1").display()));
    Ok(Done::Good)
}
