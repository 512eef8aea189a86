//! That the files on disk are not what is published, where that would surprise.

use super::{rollback, say};
use crate::socket::Socket;
use lockstep_leader::config::Config;
use lockstep_leader::rollback::{Disk, disk};

/// After a rollback, says what the next publication would bring back. A reminder: where it can't be had, there is none.
pub(super) async fn remind(config: &Config, socket: Option<&Socket>) {
    let found: Option<Disk> = match socket {
        Some(socket) => socket.get("/admin/disk").await.ok(),
        None => disk(config).ok(),
    };
    let Some(Disk { revision, rolled_back_to: Some(to), files, .. }) = found else { return };
    if let Some(hint) = rollback::edits(to, &files) {
        say(&format!("revision {revision} is a rollback to revision {to}; {hint}"));
    }
}
