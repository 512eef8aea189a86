//! What follows once a platform's files are in place: the service, this
//! machine's own follower, tokens for the others, and what to do next.

use super::super::{print, print_json, say};
use crate::exit::{Done, Failed};
use crate::unit::{Running, Side, quoted};
use lockstep_leader::founding::{Going, Site};
use serde_json::json;
use std::path::Path;

/// Does what is left, and then forgets that anything was.
pub(super) fn finish(root: &Path, site: Site, going: &Going, json: bool) -> Result<Done, Failed> {
    let running = Running::of(Side::Leader, root, going.service);
    let started = running.start()?;
    if json {
        print_json(&json!({"root": root, "new": true, "revision": 1, "service": started}))?;
    } else {
        print(&format!("{} is a platform, and revision 1 is published.\n{started}\n", root.display()))?;
    }
    site.finish()?;
    Ok(Done::Good)
}

/// On a root that is a platform.
pub(super) fn already(root: &Path, json: bool) -> Result<Done, Failed> {
    if json {
        print_json(&json!({"root": root, "new": false}))?;
        return Ok(Done::Good);
    }
    let at = quoted(&root.display().to_string());
    print(&format!("{} is a platform already; nothing was changed.\n", root.display()))?;
    say(&format!(
        "the next machine: lockstep tokens create --role ROLE --root {at}\na setting: lockstep settings set NAME VALUE --root {at}\nhow it is: lockstep status --root {at}"
    ));
    Ok(Done::Good)
}
