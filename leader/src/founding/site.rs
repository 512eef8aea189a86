//! A new platform's home, put in its place. All of it is made in a folder
//! within the root first; then that is marked as whole and moved piece by
//! piece. Killed before the mark, nothing has happened; killed after it, the
//! next run finishes. Until the database is in, which goes last, no leader
//! starts: its key is there without it.

use super::{Founding, FoundingError};
use crate::audit::{Audit, Event};
use crate::authority::Authority;
use crate::backup::restore::shift;
use crate::config::{self, Config};
use crate::leader::LeaderError;
use crate::press::{Press, Request};
use crate::secrets::Fresh;
use crate::source::{PLATFORM, TEMPLATES};
use crate::store::{DATABASE, KEY};
use crate::who::Actor;
use lockstep_edge::durable;
use rustix::fs::{FlockOperation, flock, syncfs};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folder for what is not in place yet.
const ROOM: &str = ".init-platform";
/// The mark that all of it is there; what is left to do afterwards.
const MARK: &str = "going.json";
const STATE: &str = "state";

/// What is left to do once all files are in place; kept until it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Going {
    /// The roles whose next machine is told what to type.
    pub roles: Vec<String>,
    /// Whether the leader becomes a service of this machine.
    pub service: bool,
    /// This machine, where it follows as well.
    pub here: Option<Here>,
}

/// A machine that is leader and follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Here {
    /// Its role.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Whether it has a container engine.
    pub docker: bool,
}

/// What stands in a root.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of a leader.
    Free,
    /// All files of a platform are made, and something is left to do.
    Begun(Going),
    /// A platform.
    Platform,
    /// Some files of a leader: somebody else's.
    Occupied(Vec<PathBuf>),
}

impl Standing {
    /// Looks; changes nothing.
    pub fn look(root: &Path) -> Result<Self, FoundingError> {
        let mark = root.join(ROOM).join(MARK);
        match fs::read(&mark) {
            Ok(bytes) => {
                let going = serde_json::from_slice(&bytes);
                return going
                    .map(Self::Begun)
                    .map_err(|error| FoundingError::Left { path: mark, what: error.to_string() });
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(at(&mark)(error)),
        }
        let state = root.join(STATE);
        let parts = [root.join(PLATFORM), root.join(config::FILE), state.join(KEY), state.join(DATABASE)];
        let there: Vec<PathBuf> = parts.iter().filter(|path| path.symlink_metadata().is_ok()).cloned().collect();
        Ok(match there.len() {
            0 => Self::Free,
            all if all == parts.len() => Self::Platform,
            _ => Self::Occupied(there),
        })
    }
}

/// A root that is being worked on, by nobody else meanwhile.
pub struct Site {
    root: PathBuf,
    _held: File,
}

impl Site {
    /// Makes the root, if it isn't there, and holds it.
    pub fn open(root: &Path) -> Result<Self, FoundingError> {
        DirBuilder::new().recursive(true).mode(0o755).create(root).map_err(at(root))?;
        let held = File::open(root).map_err(at(root))?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), _held: held }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FoundingError::Busy(root.to_owned())),
            Err(error) => Err(at(root)(error.into())),
        }
    }

    fn room(&self) -> PathBuf {
        self.root.join(ROOM)
    }

    /// Makes everything beside its place, and marks it as whole.
    pub fn stage(&self, founding: &Founding, going: &Going, actor: &Actor) -> Result<(), FoundingError> {
        let room = self.room();
        // What one that was killed before its mark has left.
        match fs::remove_dir_all(&room) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&room)(error)),
            _ => {}
        }
        private(&room)?;
        let own = |name: &str| founding.own_templates && name.starts_with(TEMPLATES);
        for (name, file) in founding.source.files.iter().filter(|(name, _)| !own(name)) {
            put(&room.join(name), &file.bytes, if file.executable { 0o755 } else { 0o644 })?;
        }
        let text = format!("{:#}\n", founding.config);
        private(room.join(config::FILE).parent().unwrap_or(&room))?;
        put(&room.join(config::FILE), text.as_bytes(), 0o600)?;
        self.begin(founding, actor)?;
        let mark = serde_json::to_vec(going).map_err(io::Error::from).map_err(at(&room))?;
        // The mark is the last to become durable.
        File::open(&room).and_then(|room| Ok(syncfs(&room)?)).map_err(at(&room))?;
        durable::replace(&room.join(MARK), &mark, 0o600).map_err(at(&room))
    }

    /// The store with its keys, the given secrets, and the first revision.
    fn begin(&self, founding: &Founding, actor: &Actor) -> Result<(), FoundingError> {
        let room = self.room();
        // The environment counts when a leader runs, not for what is written down here.
        let mut config = Config::load(&room, []).map_err(LeaderError::from)?;
        config.state = room.join(STATE);
        config.platform = room.join(PLATFORM);
        config.templates = if founding.own_templates { &self.root } else { &room }.join(TEMPLATES);
        private(&config.state)?;
        let mut press = Press::open(config, Vec::new())?;
        let given = founding.secrets.iter();
        let given = given.map(|(name, holder, value)| Fresh::given(name, holder, value.to_string(), &actor.name));
        press.store.settle(&given.collect::<Vec<_>>()).map_err(LeaderError::from)?;
        let beside = |press: &Press| press.store.beside().map_err(LeaderError::from);
        // Makes the platform's own authority, where it is to have one.
        Authority::open(press.config(), beside(&press)?, Authority::pins()).map_err(LeaderError::from)?;
        Audit::new(beside(&press)?)
            .append(&Event::done(actor, "init-platform", concat!("version ", env!("CARGO_PKG_VERSION"))))
            .map_err(LeaderError::from)?;
        let request = Request { author: actor.name.clone(), message: "init-platform".to_owned(), ..Request::default() };
        press.publish(&request)?;
        Ok(())
    }

    /// Moves what is staged to its place; what is there already was moved by one that was killed.
    pub fn settle(&self) -> Result<(), FoundingError> {
        let room = self.room();
        let state = Path::new(STATE);
        private(&self.root.join(STATE))?;
        let conf = self.root.join(config::FILE);
        private(conf.parent().unwrap_or(&self.root))?;
        // The key first and the database last: in between no leader starts.
        for name in [
            &state.join(KEY),
            Path::new(config::FILE),
            Path::new(TEMPLATES),
            Path::new(PLATFORM),
            &state.join(DATABASE),
        ] {
            let (from, to) = (room.join(name), self.root.join(name));
            if from.symlink_metadata().is_err() {
                continue;
            }
            if to.is_dir() {
                // Only an empty one goes; with something in it this fails, and nothing is lost.
                fs::remove_dir(&to).map_err(at(&to))?;
            } else if to.symlink_metadata().is_ok() {
                return Err(FoundingError::Occupied(vec![to]));
            }
            shift(&from, &to).map_err(at(&to))?;
            durable::sync_folder(to.parent().unwrap_or(&self.root)).map_err(at(&to))?;
        }
        Ok(())
    }

    /// Keeps a text until everything is done, readable to nobody else.
    pub fn keep(&self, name: &str, text: &str) -> Result<(), FoundingError> {
        let path = self.room().join(name);
        durable::replace(&path, text.as_bytes(), 0o600).map_err(at(&path))
    }

    /// What was kept, also by one that was killed.
    pub fn kept(&self, name: &str) -> Result<Option<String>, FoundingError> {
        let path = self.room().join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Everything is done: nothing is left to go on with.
    pub fn finish(self) -> Result<(), FoundingError> {
        let room = self.room();
        // The mark goes last: what is left without it would be nobody's to remove.
        for entry in fs::read_dir(&room).map_err(at(&room))? {
            let path = entry.map_err(at(&room))?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(at(&path))?;
            } else if !path.ends_with(MARK) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        fs::remove_dir_all(&room).map_err(at(&room))?;
        durable::sync_folder(&self.root).map_err(at(&self.root))
    }
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FoundingError> {
    let folder = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(at(folder))?;
    durable::place(path, bytes, mode).map_err(at(path))
}

fn private(folder: &Path) -> Result<(), FoundingError> {
    durable::private_folder(folder).map_err(at(folder))
}

fn at(path: &Path) -> impl Fn(io::Error) -> FoundingError + '_ {
    |source| FoundingError::Io { path: path.to_owned(), source }
}
