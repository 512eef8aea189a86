//! What a running original leader serves, beside what lockstep would serve.

use crate::ImportError;
use crate::proof::Root;
use lockstep_shared::{Bundle, Name};
use serde::Deserialize;
use similar::TextDiff;
use std::collections::{BTreeMap, BTreeSet};

/// Lines around a difference.
const CONTEXT: usize = 3;

/// What stands for a secret's value.
const MASK: &str = "••••••••";

/// The original's answer to `GET /conf`.
#[derive(Debug, Deserialize)]
pub struct Conf {
    /// The role's files.
    pub files: Vec<ConfFile>,
}

/// One file of it.
#[derive(Debug, Deserialize)]
pub struct ConfFile {
    /// With a slash before it.
    pub path: String,
    /// Its text.
    pub content: String,
}

/// What came of comparing.
#[derive(Debug)]
pub struct Verified {
    /// The role that was compared.
    pub role: Name,
    /// How many files the original serves for it.
    pub files: usize,
    /// A unified diff for each difference, secrets masked.
    pub differences: Vec<String>,
}

/// Compares an answer with a role of the root; without a role, with the one
/// that has the most of its files.
pub fn compare(conf: &Conf, root: &Root, role: Option<&Name>) -> Result<Verified, ImportError> {
    let mask = root.mask()?;
    let served: BTreeMap<&str, &str> =
        conf.files.iter().map(|file| (file.path.trim_start_matches('/'), file.content.as_str())).collect();
    let mut best: Option<(usize, Name, std::sync::Arc<Bundle>)> = None;
    let roles: Vec<Name> = match role {
        Some(role) => vec![role.clone()],
        None => root.roles().cloned().collect(),
    };
    for role in roles {
        let Some(bundle) = root.render(&role)?.into_values().next() else { continue };
        let equal = bundle
            .files
            .iter()
            .filter(|file| served.get(file.path.as_str()).is_some_and(|text| text.as_bytes() == &*file.content));
        let known = bundle.files.iter().filter(|file| served.contains_key(file.path.as_str()));
        // Of two roles with the same files the one whose content fits better, or that has less beside.
        let score = (equal.count() + known.count()) * 1000 + 999usize.saturating_sub(bundle.files.len());
        if best.as_ref().is_none_or(|(most, ..)| score > *most) {
            best = Some((score, role, bundle));
        }
    }
    let Some((_, role, bundle)) = best else {
        return Err(ImportError::Other("the root has no roles: import into it first".to_owned()));
    };
    let ours: BTreeSet<&str> = bundle.files.iter().map(|file| file.path.as_str()).collect();
    let mut differences = Vec::new();
    for path in served.keys().copied().filter(|path| !ours.contains(path)) {
        differences.push(format!("{path}: only the original serves it"));
    }
    for file in &bundle.files {
        let path = file.path.as_str();
        match served.get(path) {
            None => differences.push(format!("{path}: only lockstep serves it")),
            Some(text) if text.as_bytes() == &*file.content => {}
            Some(text) => {
                let ours = String::from_utf8_lossy(&file.content);
                let new = mask.text(&ours);
                let old = alike(&mask.text(text), &new);
                let diff = TextDiff::from_lines(&old, &new);
                let shown = diff
                    .unified_diff()
                    .context_radius(CONTEXT)
                    .header(&format!("original {path}"), &format!("lockstep {path}"))
                    .to_string();
                let hidden = shown.is_empty();
                differences.push(if hidden {
                    format!("{path}: a secret's value, or bytes that are no text, differ")
                } else {
                    shown
                });
            }
        }
    }
    Ok(Verified { role, files: served.len(), differences })
}

/// The original's text, where lines are like ours but for a secret: another
/// value of it is no less one, and not shown.
fn alike(old: &str, new: &str) -> String {
    let ends: Vec<(&str, &str)> = new
        .lines()
        .filter_map(|line| Some((line.split_once(MASK)?.0, line.rsplit_once(MASK)?.1)))
        .filter(|(before, after)| !before.trim().is_empty() || !after.trim().is_empty())
        .collect();
    let hide = |line: &str| {
        let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
        let fits = |(before, after): &&(&str, &str)| {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        };
        match ends.iter().find(fits).filter(|_| !text.contains(MASK)) {
            Some((before, after)) => format!("{before}{MASK} (another){after}{end}"),
            None => line.to_owned(),
        }
    };
    old.split_inclusive('\n').map(hide).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn another_value_of_a_secret_is_not_shown() {
        let ours = "key: \"••••••••\"\nport: 1\n";
        let theirs = "key: \"s3cr3t\"\nport: 2\n";
        assert_eq!(super::alike(theirs, ours), "key: \"•••••••• (another)\"\nport: 2\n");
    }
}
