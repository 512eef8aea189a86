//! Commands that a message names are typed next: whoever said `--root` has to
//! say it there too.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `--root` said.
static ROOT: OnceLock<PathBuf> = OnceLock::new();
/// Whether it was told of already.
static TOLD: AtomicBool = AtomicBool::new(false);

/// `--root` was said.
pub(crate) fn at(root: &Path) {
    let _ = ROOT.set(root.to_owned());
}

/// A message as it is shown; to a person, once, with a reminder under it.
pub(crate) fn complete(text: &str) -> String {
    match ROOT.get() {
        Some(root)
            if std::io::stderr().is_terminal() && names_a_command(text) && !TOLD.swap(true, Ordering::Relaxed) =>
        {
            format!(
                "{text}\n(for this home, such commands need --root {} too)",
                crate::unit::quoted(&root.display().to_string())
            )
        }
        _ => text.to_owned(),
    }
}

/// Whether it names a command that could be typed as it stands there.
fn names_a_command(text: &str) -> bool {
    let next = |(at, _): (usize, &str)| text[at..].split(' ').nth(1).unwrap_or_default();
    let word = |word: &str| word.starts_with(|letter: char| letter.is_ascii_lowercase()) && word != "help";
    !text.contains("--root") && text.match_indices("lockstep ").map(next).any(word)
}

#[cfg(test)]
mod tests {
    use super::names_a_command;

    #[test]
    fn a_hint_is_a_command_without_its_home() {
        for text in ["there is no revision 99 (lockstep history)", "lockstep plan shows what changes"] {
            assert!(names_a_command(text), "{text}");
        }
        for text in ["all is well", "lockstep 0.1.0", "type lockstep tokens list --root /srv", "lockstep help contexts"]
        {
            assert!(!names_a_command(text), "{text}");
        }
    }
}
