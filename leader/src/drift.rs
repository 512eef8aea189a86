//! What a follower found in the place of a file, as a diff that people may
//! see. Made here, since only the leader knows what is secret.

use crate::mask::{Mask, SHOWN};
use crate::store::Store;
use lockstep_shared::Bundle;
use lockstep_shared::api::Status;
use similar::{ChangeTag, DiffTag, TextDiff};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Lines of context around a change.
const CONTEXT: usize = 2;
/// A diff that is longer is cut, in bytes.
const LONGEST: usize = 16 * 1024;

/// Makes diffs of what was found.
pub struct Drifts {
    state: PathBuf,
    /// The mask of a revision: secrets' values come into files only by publishing.
    mask: Mutex<Option<(u64, Arc<Mask>)>>,
}

impl Drifts {
    /// For the store in a state folder.
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), mask: Mutex::default() }
    }

    /// Puts diffs in the place of what was found, all of which is dropped.
    /// `revision` is the one that `served` is of. Blocks while it reads the store.
    pub fn show(&self, status: &mut Status, revision: u64, served: Option<&Bundle>) {
        for drift in &mut status.drift {
            // What a follower says by itself is not to be trusted with secrets.
            drift.diff = String::new();
            let Some(found) = drift.found.take() else { continue };
            let wanted = served.and_then(|bundle| bundle.file(drift.path.as_str()));
            let Some(wanted) = wanted.filter(|file| file.sha256 == found.instead_of) else { continue };
            let Ok(wanted) = std::str::from_utf8(&wanted.content) else { continue };
            // Without the secrets nothing can be shown.
            let Some(mask) = self.mask(revision) else { continue };
            drift.diff = diff(wanted, &found.text, &mask);
        }
    }

    fn mask(&self, revision: u64) -> Option<Arc<Mask>> {
        let mut kept = self.mask.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mask)) = kept.as_ref().filter(|(of, _)| *of == revision) {
            return Some(mask.clone());
        }
        let secrets = Store::peek(&self.state).ok()??.rendered_secrets().ok()?;
        let mask = Arc::new(Mask::new(&secrets));
        *kept = Some((revision, mask.clone()));
        Some(mask)
    }
}

/// A unified diff without secrets: known values are masked, and so is every
/// line that somebody put where a line with a secret was, or beside one: it may
/// hold a value that is just becoming a secret, or a part of one.
fn diff(wanted: &str, found: &str, mask: &Mask) -> String {
    let (before, after) = (mask.text(wanted), mask.text(found));
    let diff = TextDiff::from_lines(&before, &after);
    let is_secret = |index: usize| diff.old_slice(index).is_some_and(|line| line.contains(SHOWN));
    let mut out = String::new();
    for group in diff.grouped_ops(CONTEXT) {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let (old, new) = (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
        out.push_str(&format!("@@ -{},{} +{},{} @@\n", old.start + 1, old.len(), new.start + 1, new.len()));
        for op in &group {
            let range = op.old_range();
            // With the lines beside it.
            let hidden = op.tag() != DiffTag::Equal && (range.start.saturating_sub(1)..=range.end).any(is_secret);
            for change in diff.iter_changes(op) {
                let sign = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                let line = change.value().trim_end_matches('\n');
                let shown = if hidden && change.tag() == ChangeTag::Insert { SHOWN } else { line };
                out.push_str(&format!("{sign}{shown}\n"));
            }
        }
    }
    if out.is_empty() && wanted != found {
        return "only the value of a secret is different\n".to_owned();
    }
    if out.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| out.is_char_boundary(*end)).unwrap_or(0);
        out.truncate(end);
        out.push_str("\n... (cut)\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_is_different_and_no_secret() {
        let secret = "s3cr3t-value-0042".to_owned();
        let mask = Mask::new([&secret]);
        let wanted = format!("user web\npassword {secret}\nport 80\nlog off\na\nb\nc\nworkers 1\n");
        let found = "user web\npassword typed-by-hand\n# password s3cr3t-val\nport 80\nlog on\na\nb\nc\nworkers 4\n";
        let shown = diff(&wanted, found, &mask);
        assert!(shown.contains("-workers 1\n+workers 4\n") && shown.contains("-log off\n+log on\n"), "{shown}");
        for hidden in ["s3cr3t", "typed"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        let copied = format!("{wanted}# {secret}\n");
        assert!(diff(&wanted, &copied, &mask).contains(&format!("+# {SHOWN}")));
        let other = Mask::new([&secret, &"another-4711".to_owned()]);
        let rotated = wanted.replace(&secret, "another-4711");
        assert_eq!(diff(&wanted, &rotated, &other), "only the value of a secret is different\n");
        // A line put beside one with a secret.
        let beside = wanted.replace("port 80", "half s3cr3t-val\nport 80");
        assert!(!diff(&wanted, &beside, &mask).contains("s3cr3t"), "{}", diff(&wanted, &beside, &mask));
    }

    #[test]
    fn a_long_diff_is_cut() {
        let found: String = (0..5000).map(|line| format!("line {line} ü\n")).collect();
        let shown = diff("", &found, &Mask::new([]));
        assert!(shown.len() < LONGEST + 20 && shown.ends_with("(cut)\n"));
    }
}
