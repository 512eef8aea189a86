//! The bundle's form on the wire (`docs/protocol.md`, "GET /conf/{role}").

use super::{BadBundle, Bundle, File, Told};
use crate::{Mode, Name, OnChange, OnDrift, Owner, SafePath, Sha256, VolumePath, canonical, escape};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// What a leader says of `restarts` that wants to be asked before containers are restarted.
const LEASED: &str = "leased";

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    role: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<Name>,
    revision: u64,
    digest: Sha256,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest_form: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compose: Option<SafePath>,
    #[serde(borrow)]
    files: Vec<WireFile<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireFile<'a> {
    path: Cow<'a, str>,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
    sha256: Sha256,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_change: Option<OnChange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    containers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    check: Vec<String>,
    #[serde(default, rename = "drift", skip_serializing_if = "Option::is_none")]
    on_drift: Option<OnDrift>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_in: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_seconds: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<VolumePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_base64: Option<Cow<'a, str>>,
}

impl Bundle {
    /// The JSON, of nobody's where there is no `machine`; files that are `left_out` come without their content.
    pub(super) fn json(&self, revision: u64, machine: Option<&Name>, left_out: impl Fn(&File) -> bool) -> Vec<u8> {
        let wire = Wire {
            role: self.role.clone(),
            machine: machine.cloned(),
            revision,
            digest: self.digest,
            digest_form: Some(Cow::Borrowed(canonical::form(&self.files))),
            restarts: Some(Cow::Borrowed(LEASED)),
            compose: self.compose.clone(),
            files: Vec::new(),
        };
        let content = |file: &File| if left_out(file) { 0 } else { file.content.len() * 9 / 8 };
        let size: usize = self.files.iter().map(|file| content(file) + 256).sum();
        let mut json = Vec::with_capacity(size + 256);
        // Writing plain data into memory can't fail.
        let _ = serde_json::to_writer(&mut json, &wire);
        // The files go between the brackets that it ends with.
        json.truncate(json.len() - b"]}".len());
        for (index, file) in self.files.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            WireFile::write(&mut json, file, left_out(file));
        }
        json.extend_from_slice(b"]}");
        json
    }

    /// Reads JSON; machine and content that were left out are those of `base`.
    pub(super) fn read(json: &[u8], base: Option<&Self>) -> Result<(Self, Told), BadBundle> {
        let wire: Wire<'_> = serde_json::from_slice(json)?;
        let files = wire.files.into_iter().map(|file| file.read(base)).collect::<Result<_, _>>()?;
        let machine = wire.machine.or_else(|| Some(base?.machine.clone())).ok_or(BadBundle::Nobody)?;
        let mut bundle = Self::new(wire.role, machine, wire.compose, files)?;
        let known = |form| matches!(form, canonical::FORM | canonical::FORM_2);
        if wire.digest_form.as_deref().is_some_and(known) && bundle.digest != wire.digest {
            return Err(BadBundle::BundleDigest);
        }
        bundle.digest = wire.digest;
        let leased = wire.restarts.as_deref() == Some(LEASED);
        Ok((bundle, Told { revision: wire.revision, leased }))
    }
}

impl<'a> WireFile<'a> {
    /// Appends a file, its text after all else.
    fn write(json: &mut Vec<u8>, file: &'a File, without_content: bool) {
        let (text, content_base64) = match std::str::from_utf8(&file.content) {
            _ if without_content => (None, None),
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(Cow::Owned(STANDARD.encode(&file.content)))),
        };
        let rest = Self {
            path: Cow::Borrowed(file.path.as_str()),
            mode: file.mode,
            owner: file.owner,
            sha256: file.sha256,
            size: file.content.len() as u64,
            on_change: file.on_change.clone(),
            services: file.services.clone(),
            containers: file.containers.clone(),
            check: file.check.clone(),
            on_drift: file.on_drift,
            check_in: file.check_in.clone(),
            check_seconds: file.check_seconds,
            volume: file.volume.clone(),
            content: None,
            content_base64,
        };
        // Writing plain data into memory can't fail.
        let _ = serde_json::to_writer(&mut *json, &rest);
        if let Some(text) = text {
            json.truncate(json.len() - b"}".len());
            json.extend_from_slice(b",\"content\":");
            escape::quoted(json, text);
            json.push(b'}');
        }
    }

    fn read(self, base: Option<&Bundle>) -> Result<File, BadBundle> {
        let path = SafePath::new(self.path.into_owned())?;
        let content: Arc<[u8]> = match (self.content, self.content_base64) {
            (Some(text), None) => text.as_bytes().into(),
            (None, Some(base64)) => match STANDARD.decode(base64.as_bytes()) {
                Ok(bytes) => bytes.into(),
                Err(_) => return Err(BadBundle::Content(path)),
            },
            (None, None) => match base.and_then(|base| base.file(path.as_str())) {
                Some(same) if same.sha256 == self.sha256 => same.content.clone(),
                _ => return Err(BadBundle::Content(path)),
            },
            _ => return Err(BadBundle::Content(path)),
        };
        // What the base has was hashed when it came.
        let same =
            base.and_then(|base| base.file(path.as_str())).is_some_and(|same| Arc::ptr_eq(&same.content, &content));
        if content.len() as u64 != self.size || !(same || Sha256::of(&content) == self.sha256) {
            return Err(BadBundle::Bytes { path });
        }
        Ok(File {
            path,
            mode: self.mode,
            owner: self.owner,
            sha256: self.sha256,
            content,
            on_change: self.on_change,
            services: self.services,
            containers: self.containers,
            check: self.check,
            on_drift: self.on_drift,
            check_in: self.check_in,
            check_seconds: self.check_seconds,
            volume: self.volume,
        })
    }
}
