//! The canonical form whose SHA-256 is a bundle's digest (`docs/protocol.md`,
//! "The digest"). It covers everything a follower acts on and nothing else.

use crate::{File, SafePath, Sha256};
use std::fmt::{Display, Write as _};

/// The name of the form, carried in a bundle as `digest_form`.
pub const FORM: &str = "lockstep-bundle-v1";
/// The form of a bundle in which a file says something that [`FORM`] has no room
/// for: whoever doesn't use that has the same digest as ever.
pub const FORM_2: &str = "lockstep-bundle-v2";

/// The form that the digest of these files is over.
pub fn form(files: &[File]) -> &'static str {
    if files.iter().all(|file| further(file).is_empty()) { FORM } else { FORM_2 }
}

/// What a file says beyond [`FORM`], each `key:value`, sorted.
fn further(file: &File) -> Vec<String> {
    let said = [
        file.check_in.as_ref().map(|service| format!("check_in:{service}")),
        file.check_seconds.map(|seconds| format!("check_seconds:{seconds}")),
        file.on_drift.map(|on_drift| format!("drift:{on_drift}")),
        file.volume.as_ref().map(|place| format!("volume:{place}")),
    ];
    said.into_iter().flatten().collect()
}

/// The digest of a bundle with these files, sorted by path.
pub fn digest(compose: Option<&SafePath>, files: &[File]) -> Sha256 {
    let mut form = Form(String::with_capacity(64 + files.len() * 160));
    let name = self::form(files);
    form.field(name);
    form.optional(compose);
    for file in files {
        form.field(&file.path);
        form.field(file.mode);
        form.optional(file.owner.as_ref());
        form.field(file.sha256);
        form.optional(file.on_change.as_ref());
        form.list(&file.services);
        form.list(&file.containers);
        form.list(&file.check);
        if name == FORM_2 {
            form.list(&further(file));
        }
    }
    Sha256::of(form.0.as_bytes())
}

/// A run of netstrings: `<length in bytes>:<text>,`.
struct Form(String);

impl Form {
    fn field(&mut self, value: impl Display) {
        let text = value.to_string();
        let _ = write!(self.0, "{}:{text},", text.len());
    }

    fn optional(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.field(value),
            None => self.field(""),
        }
    }

    fn list(&mut self, values: &[String]) {
        self.field(values.len());
        for value in values {
            self.field(value);
        }
    }
}
