//! Looks whether written files are as they were written, and what stands in
//! the place of those that are not.

use crate::apply::Applier;
use crate::ended::ApplyError;
use crate::plan::drift::Drifted;
use lockstep_shared::OnDrift;
use lockstep_shared::api::Found;

/// A larger file's content is not kept for a diff, in bytes.
const MOST_OF_A_FILE: usize = 64 * 1024;
/// Nor more than this in all, well below what a leader takes of a report.
const MOST: usize = 256 * 1024;

/// A file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The file and what is different.
    pub drifted: Drifted,
    /// What stands in its place, where it is text and not too long.
    pub found: Option<Found>,
}

impl Applier {
    /// Files that are not as they were written; with `every_byte` all are read
    /// again, otherwise those are passed over that are stamped as they were.
    pub fn look(&mut self, default: OnDrift, every_byte: bool) -> Result<Vec<Seen>, ApplyError> {
        let Self { store, applied: Some(applied), .. } = self else { return Ok(Vec::new()) };
        if every_byte {
            store.forget_stamps();
        }
        let (disk, _) = store.look(None, Some(applied))?;
        let mut room = MOST;
        let seen = applied.drifted(&disk, default).into_iter().map(|drifted| {
            let text = drifted.has_other_bytes.then(|| store.text(&drifted.path, MOST_OF_A_FILE.min(room))).flatten();
            room -= text.as_ref().map_or(0, String::len);
            let instead_of = applied.files.get(&drifted.path).map(|known| known.sha256);
            let found = text.zip(instead_of).map(|(text, instead_of)| Found { text, instead_of });
            Seen { drifted, found }
        });
        Ok(seen.collect())
    }
}
