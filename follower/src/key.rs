//! The key that this follower shares with its leader, and the one that takes
//! its place. A new key is on the disk before it is used, and the old one stays
//! beside it (`state/key.before`) until the leader has answered the new one: a
//! crash at any moment leaves a key that the leader takes.

use crate::config::Config;
use http::StatusCode;
use lockstep_edge::gate::Entry;
use lockstep_edge::{CallError, Client, Gate, durable};
use lockstep_shared::{Key, Name};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The key before, below the state folder, while the new one is on trial.
const BEFORE: &str = "key.before";

/// The key, and what it replaces.
pub struct Keyring {
    name: Name,
    /// Where the key is; none where it stands in the configuration itself.
    file: Option<PathBuf>,
    before: PathBuf,
    client: Arc<Client>,
    gate: Arc<Gate>,
    inside: Mutex<Inside>,
}

struct Inside {
    key: Key,
    /// Its number with the client.
    number: u64,
    /// The one before, while the new one is on trial, and its number since it was tried again.
    before: Option<(Key, Option<u64>)>,
}

impl Keyring {
    /// The key of the configuration, and what a crash left of the one before.
    pub fn open(config: &Config, client: Arc<Client>, gate: Arc<Gate>) -> Self {
        let path = config.state_folder.join(BEFORE);
        // A key that a crash left half put down is one all the same.
        config.key_file.iter().chain([&path]).for_each(|path| durable::sweep(path));
        let before = std::fs::read_to_string(&path).ok().and_then(|text| Key::parse(&text).ok());
        // The crash came before the new one was in its place: there is nothing to try.
        let before = before.filter(|before| *before.reveal() != *config.key.reveal());
        let number = client.key_number();
        let ring = Self {
            name: config.name.clone(),
            file: config.key_file.clone(),
            before: path,
            client,
            gate,
            inside: Mutex::new(Inside { key: config.key.clone(), number, before: before.map(|key| (key, None)) }),
        };
        let inside = ring.inside();
        if inside.before.is_none() {
            ring.forget_before();
        }
        ring.let_in(&inside);
        drop(inside);
        ring
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader signs with the old key until this follower has used the new one.
    fn let_in(&self, inside: &Inside) {
        let other = inside.before.as_ref().map(|(key, _)| key.clone());
        self.gate.put(&Entry { other, ..Entry::new(self.name.as_str(), inside.key.clone()) });
    }

    /// Takes the key that the leader told, durably before it is used. Whether it is another than until now.
    pub fn take(&self, text: &str) -> bool {
        let Some(file) = &self.file else {
            tracing::warn!(
                "the leader told a new key, and this one's stands in config-follower.json (leader.key): put it into a file of its own (leader.keyFile), and restart"
            );
            return false;
        };
        let Ok(key) = Key::parse(text) else {
            tracing::warn!("the leader told a key that is none; the one before holds");
            return false;
        };
        let mut inside = self.inside();
        if *key.reveal() == *inside.key.reveal() {
            return false;
        }
        // One that was on trial was never answered: what is kept is the one that was.
        let old = inside.before.take().map_or_else(|| inside.key.clone(), |(old, _)| old);
        let kept = self.write(&self.before, &old).and_then(|()| self.write(file, &key));
        if let Err(error) = kept {
            tracing::error!(%error, "the new key could not be kept; the leader tells it again");
            inside.before = (*old.reveal() != *inside.key.reveal()).then_some((old, None));
            return false;
        }
        tracing::info!("the leader told a new key: it is used from now on");
        let number = self.client.rekey(&key);
        *inside = Inside { key, number, before: Some((old, None)) };
        self.let_in(&inside);
        true
    }

    /// The leader has answered what was signed with the key of this number.
    pub fn answered(&self, number: u64) {
        let mut inside = self.inside();
        let Some((before, tried)) = inside.before.clone() else { return };
        if number == inside.number {
            tracing::info!("the leader takes the new key: the old one is forgotten");
        } else if tried == Some(number) {
            let kept = self.file.as_ref().map_or(Ok(()), |file| self.write(file, &before));
            if let Err(error) = kept {
                tracing::error!(%error, "the key that the leader takes could not be put back");
                return;
            }
            tracing::warn!("the leader doesn't know the new key: the one before is used again");
            (inside.key, inside.number) = (before, number);
        } else {
            return;
        }
        inside.before = None;
        self.forget_before();
        self.let_in(&inside);
    }

    /// The leader refused the key that is on trial: tries the one before. Whether there is one.
    pub fn fall_back(&self) -> bool {
        let mut inside = self.inside();
        let Some((before, tried)) = &mut inside.before else { return false };
        *tried = Some(self.client.rekey(before));
        true
    }

    /// That was not it either: on with the new one.
    pub fn go_on(&self) {
        let mut inside = self.inside();
        if inside.before.is_some() {
            inside.number = self.client.rekey(&inside.key);
        }
    }

    fn write(&self, path: &std::path::Path, key: &Key) -> Result<(), String> {
        durable::replace(path, format!("{}\n", key.reveal().as_str()).as_bytes(), 0o600)
            .map_err(|error| format!("{} of {}: {error}", path.display(), self.name))
    }

    fn forget_before(&self) {
        let gone = std::fs::remove_file(&self.before);
        let folder = self.before.parent().unwrap_or(&self.before);
        match gone.and_then(|()| durable::sync_folder(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.before.display(), %error, "the old key could not be removed");
            }
            _ => {}
        }
    }
}

/// Whether the leader, or whoever answers, doesn't take the signature.
pub fn refuses(error: &CallError) -> bool {
    match error {
        CallError::Untrusted { status, .. } => *status == StatusCode::UNAUTHORIZED,
        CallError::Nowhere(errors) => errors.iter().any(refuses),
        _ => false,
    }
}
