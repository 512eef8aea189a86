//! Room that is kept on the disk for one start when it is full: to open the
//! database `SQLite` needs some, and a leader that serves can say what is wrong.

use super::error::{LITTLE, room};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The file within the state folder.
const RESERVE: &str = "reserve";
/// The index of `SQLite`'s log takes 32 KiB, the log itself what is written at a start.
const SIZE: u64 = 256 * 1024;

/// Gives the reserve up where the disk is full, otherwise sees that there is one.
pub(super) fn use_or_keep(state: &Path) {
    if room(state) >= LITTLE {
        keep(state);
    } else if fs::remove_file(state.join(RESERVE)).is_ok() {
        tracing::warn!(
            folder = %state.display(),
            "the disk is full: what was kept free for this start is used up; make room (df -h), until then nothing can be stored"
        );
    }
}

/// Makes the reserve where it is missing. Where there is no room for it, the next start or revision tries again.
pub(super) fn keep(state: &Path) {
    let path = state.join(RESERVE);
    if path.metadata().is_ok_and(|meta| meta.len() == SIZE) || room(state) < 2 * SIZE {
        return;
    }
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let kept = file.and_then(|file| {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SIZE).map_err(io::Error::from)
    });
    if let Err(error) = kept {
        tracing::debug!(%error, "no room is kept for a start on a full disk");
        let _ = fs::remove_file(&path);
    }
}
