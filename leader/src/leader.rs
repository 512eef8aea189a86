//! The running leader: what is published, and publishing.

use crate::access::Access;
use crate::audit::Audit;
use crate::authority::{Authority, AuthorityError};
use crate::backup;
use crate::certificates::ends::Ends;
use crate::chronicle::Chronicle;
use crate::config::{Config, ConfigFault};
use crate::drift::Drifts;
use crate::fault::Faults;
use crate::fleet::{Heard, Reports};
use crate::http::Waits;
use crate::meters::Meters;
use crate::press::{Press, Request};
use crate::publication::{Outline, Publication};
use crate::published::Published;
use crate::ready::Disk;
use crate::release::RenderError;
use crate::rollout::{Conductor, Fresh, Hands, Pushes, Standing};
use crate::roster::{self, Roster, RosterError};
use crate::store::{Store, StoreError};
use lockstep_edge::Gate;
use lockstep_edge::settings::ConfigError;
use lockstep_edge::tls::Pins;
use lockstep_shared::Name;
use lockstep_shared::api::Push;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Everything that a running leader holds.
pub struct Leader {
    /// How it runs.
    pub config: Config,
    /// Lets followers in.
    pub gate: Arc<Gate>,
    /// What followers said.
    pub reports: Reports,
    /// Tells followers.
    pub pushes: Arc<Pushes>,
    /// Who is offered what, and who may restart.
    pub rollout: Conductor,
    /// The last published revision; changes wake long polls.
    pub published: watch::Sender<Arc<Published>>,
    /// True once the leader is going down: long polls end.
    pub stop: watch::Receiver<bool>,
    /// Held long polls.
    pub waits: Waits,
    /// Makes diffs of what followers found changed.
    pub drifts: Drifts,
    /// What machines were proven to run, over time.
    pub chronicle: Chronicle,
    /// Who may come in from elsewhere.
    pub access: Access,
    /// The machines that follow, to change them.
    pub roster: Roster,
    /// What was done, and by whom.
    pub audit: Arc<Audit>,
    /// Issues the certificates of TLS.
    pub authority: Arc<Authority>,
    /// What is counted while it runs.
    pub meters: Meters,
    pub(crate) disk: Disk,
    pub(crate) ends: Ends,
    pub(crate) press: Mutex<Press>,
    /// Whether followers can reach it; not so for one command on the files.
    pub(crate) listens: bool,
}

/// Why a leader doesn't run or doesn't publish.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The declared followers.
    #[error(transparent)]
    Followers(#[from] ConfigFault),
    /// A follower's address.
    #[error("{0}")]
    Address(String),
    /// The edited files. Nothing was published.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// A revision, machine, file or setting that isn't there.
    #[error("{0}")]
    Unknown(String),
    /// What was asked for doesn't fit what is there now.
    #[error("{0}")]
    Conflict(String),
    /// A follower, or who may be one.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority of TLS.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The port or the socket.
    #[error("{what} can't be listened on: {source}{next}")]
    Listen {
        /// The address or path.
        what: String,
        /// Why.
        source: std::io::Error,
        /// What to do.
        next: String,
    },
    /// A file of the state folder.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl From<RenderError> for LeaderError {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Faults(faults) => Self::Faults(faults),
            RenderError::Store(error) => Self::Store(error),
        }
    }
}

/// The ways to and from the followers.
struct Doors {
    gate: Gate,
    pushes: Pushes,
    pins: Arc<Pins>,
}

/// Refuses what would keep a leader from starting, as far as the configuration alone shows it.
pub fn check(config: &Config) -> Result<(), LeaderError> {
    Doors::checked(config).map(drop)
}

/// Reads who joined, and refuses a configuration that contradicts it.
pub fn check_members(config: &Config, store: &Store) -> Result<(), LeaderError> {
    if let Some(name) = roster::load(&config.members, store)?.first() {
        return Err(ConfigFault::Twice(name.clone()).into());
    }
    Ok(config.check_rollout()?)
}

impl Doors {
    /// For a leader that listens.
    fn checked(config: &Config) -> Result<Self, LeaderError> {
        config.check_admin()?;
        config.check_tls()?;
        Self::of(config)
    }

    fn of(config: &Config) -> Result<Self, LeaderError> {
        let keys = config.keys()?;
        let pins = Authority::pins();
        let pushes = Pushes::new(config, &keys, &pins).map_err(LeaderError::Address)?;
        let gate = Gate::new(keys.into_iter().map(|(name, key)| (name.to_string(), key)), &config.limits);
        Ok(Self { gate, pushes, pins })
    }

    /// For those that joined as well.
    fn open(&self, config: &Config) -> Result<(), LeaderError> {
        for follower in config.members.now().values().filter_map(|member| member.joined.as_ref()) {
            roster::admit(&self.gate, &self.pushes, follower)?;
        }
        Ok(())
    }
}

impl Leader {
    /// Opens the store, publishes or loads what is served, and is ready to listen.
    pub fn open(config: Config, env: Vec<(String, String)>, stop: watch::Receiver<bool>) -> Result<Self, LeaderError> {
        backup::clear(config.root());
        // Before anything is published.
        let doors = Doors::checked(&config)?;
        let mut press = Press::open(config.clone(), env)?;
        check_members(&config, press.store())?;
        doors.open(&config)?;
        let published = press.start()?;
        Self::around(config, doors, press, published, stop, true)
    }

    /// The same for one command on the files, while no leader runs: nothing is published by opening.
    pub fn offline(config: Config, env: Vec<(String, String)>) -> Result<Self, LeaderError> {
        let doors = Doors::of(&config)?;
        let press = Press::open(config.clone(), env)?;
        let published = press.published()?;
        let (_, stop) = watch::channel(false);
        Self::around(config, doors, press, published, stop, false)
    }

    fn around(
        config: Config,
        doors: Doors,
        press: Press,
        published: Published,
        stop: watch::Receiver<bool>,
        listens: bool,
    ) -> Result<Self, LeaderError> {
        let Doors { gate, pushes, pins } = doors;
        let (gate, pushes, published) = (Arc::new(gate), Arc::new(pushes), watch::Sender::new(Arc::new(published)));
        let audit = Arc::new(Audit::new(press.store().beside()?));
        let authority = Arc::new(Authority::open(&config, press.store().beside()?, pins)?);
        let rollout = if listens {
            let hands = Hands {
                published: published.clone(),
                store: press.store().beside()?,
                pushes: pushes.clone(),
                audit: audit.clone(),
            };
            Conductor::start(hands, &config.rollout)?
        } else {
            Conductor::idle(&config.rollout)
        };
        Ok(Self {
            reports: Reports::new(),
            rollout,
            published,
            stop,
            waits: Waits::default(),
            drifts: Drifts::new(&config.state),
            chronicle: Chronicle::start(&config.state),
            access: Access::new(press.store().beside()?)?,
            roster: Roster::new(config.members.clone(), press.store().beside()?, gate.clone(), pushes.clone()),
            gate,
            pushes,
            audit,
            authority,
            meters: Meters::new(),
            disk: Disk::default(),
            ends: Ends::default(),
            press: Mutex::new(press),
            config,
            listens,
        })
    }

    /// Who a rotation of the authority waits for: whoever joined, and of those in the file
    /// whoever ever said what it trusts.
    pub fn pinning(&self) -> Vec<Name> {
        let active = self.config.members.active();
        let known = active.iter().filter(|member| member.joined.is_some() || self.authority.heard(&member.name));
        known.map(|member| member.name.clone()).collect()
    }

    /// What followers last said, for what a plan tells of containers; none where
    /// no follower can have said anything.
    pub(crate) fn heard(&self) -> Option<Heard> {
        self.listens.then(|| self.reports.heard())
    }

    /// What is served now.
    pub fn published(&self) -> Arc<Published> {
        self.published.borrow().clone()
    }

    /// Publishes what is on disk, and serves it. Blocks while it renders and writes.
    pub fn publish(&self, request: &Request) -> Result<Outline, LeaderError> {
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        let mut request = request.clone();
        request.launch.standing = self.standing();
        let before = request.launch.standing.as_ref().and_then(Standing::before);
        let (fresh, mut outline) = press.publish(&request)?;
        outline.publication.before = before;
        if let Some(fresh) = fresh {
            self.serve(fresh);
        }
        Ok(outline)
    }

    /// Tells the followers whose turn it is of a revision that is served now.
    pub(crate) async fn announce(&self, revision: u64) -> Vec<Push> {
        let published = self.published();
        let concerns = |name: &Name| published.served.get(name).is_some_and(|served| served.number() == revision);
        self.pushes.notify(revision, None, concerns).await
    }

    /// What a publication has to know of the fleet.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.listens.then(|| self.rollout.standing())
    }

    /// Serves what was just stored, to those whose turn it is. The press has to
    /// be held until then: of two publications the later stored one is served.
    pub(crate) fn serve(&self, fresh: Fresh) {
        self.meters.published();
        self.pushes.caused(fresh.published.revision.number);
        if self.listens {
            self.rollout.begin(fresh);
        } else {
            self.published.send_replace(Arc::new(fresh.published));
        }
    }

    /// Works with what publishing works with, while nothing is published.
    pub fn with_press<T>(&self, work: impl FnOnce(&mut Press) -> T) -> T {
        work(&mut self.press.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What publishing would change. Blocks while it renders.
    pub fn plan(&self) -> Result<Publication, LeaderError> {
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        let mut publication = press.plan(self.heard().as_ref())?;
        publication.before = self.standing().as_ref().and_then(Standing::before);
        Ok(publication)
    }
}
