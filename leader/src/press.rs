//! Publishing: from the files on disk to a stored revision, one at a time, with
//! or without a running leader around it.

use crate::config::Config;
use crate::difference::{self, MachineChange};
use crate::leader::LeaderError;
use crate::mask::Mask;
use crate::published::Published;
use crate::release::{self, Release};
use crate::secrets::{Drafts, Secrets, Used};
use crate::source::Source;
use crate::store::{Revision, Store};
use lockstep_edge::clock;
use lockstep_shared::api::Push;
use serde::{Deserialize, Serialize};

/// Publishes: one at a time, with or without a running leader around it.
pub struct Press {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) env: Vec<(String, String)>,
}

/// What a publication would change, or did.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Publication {
    /// The revision that is published now.
    pub revision: u64,
    /// Whether it is new: nothing is published where nothing changed.
    pub new: bool,
    /// What changed, machine by machine.
    pub changes: Vec<MachineChange>,
    /// How followers took the news.
    pub pushes: Vec<Push>,
}

/// What publishing needs to know.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Who.
    pub author: String,
    /// Why.
    pub message: String,
}

/// What publishing would come to.
enum Next {
    /// The last revision again: nothing to publish.
    Same(Box<Revision>, Used),
    /// Something else than the revision with the number `last` (0: there is none).
    New { last: u64, revision: Box<Revision>, secrets: Used, changes: Vec<MachineChange> },
}

impl Press {
    /// Opens the store for publishing; fails while another leader has it.
    pub fn open(config: Config, env: Vec<(String, String)>) -> Result<Self, LeaderError> {
        let store = Store::open(&config.state)?;
        Ok(Self { config, store, env })
    }

    /// The store, for what is kept beside revisions.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How the leader runs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the environment gives a secret's value.
    pub fn gives(&self, secret: &str) -> bool {
        self.env.iter().any(|(name, _)| name.strip_prefix(crate::secrets::ENV) == Some(secret))
    }

    /// What is published, as it is; nothing on a new platform.
    pub fn published(&self) -> Result<Published, LeaderError> {
        Ok(Published::new(self.store.latest()?.unwrap_or_default()))
    }

    /// What to serve at start: the last published revision, brought up to the
    /// declared machines; or, on a new platform, the first one.
    pub fn start(&mut self) -> Result<Published, LeaderError> {
        let Some(last) = self.store.latest()? else {
            let first = Request { author: "leader".to_owned(), message: "first revision".to_owned() };
            return Ok(self.publish(&first)?.0);
        };
        let machines = release::machines(&self.config);
        let same = last.bundles.len() == machines.len()
            && machines
                .iter()
                .all(|machine| last.bundles.get(&machine.name).is_some_and(|bundle| bundle.role == machine.role));
        if same {
            self.warn_if_edited(&last);
            return Ok(Published::new(last));
        }
        // Machines came or went: rendered from what was published, never from an edit that nobody published.
        let message = "the declared followers changed".to_owned();
        let request = Request { author: "leader".to_owned(), message };
        let (revision, secrets) = self.make(last.source.clone(), last.number + 1, &request, Drafts::Ignored)?;
        self.store.insert(&revision, &secrets)?;
        tracing::info!(revision = revision.number, "the declared followers changed: published a revision for them");
        Ok(Published::new(revision))
    }

    fn warn_if_edited(&self, last: &Revision) {
        match Source::read(&self.config.platform, &self.config.templates) {
            Ok(source) if source == last.source => {}
            Ok(_) => tracing::warn!(
                revision = last.number,
                "the files on disk differ from what is published and served: see lockstep plan, then lockstep publish"
            ),
            Err(faults) => {
                tracing::warn!(revision = last.number, %faults, "the files on disk can't be read; the published revision is served");
            }
        }
    }

    /// Renders everything on disk: what publishing now would publish.
    fn render(&self, number: u64, request: &Request) -> Result<(Revision, Used), LeaderError> {
        let source = Source::read(&self.config.platform, &self.config.templates)?;
        self.make(source, number, request, Drafts::Kept)
    }

    /// A revision from a source, and the secrets' values that went into it.
    fn make(
        &self,
        source: Source,
        number: u64,
        request: &Request,
        drafts: Drafts,
    ) -> Result<(Revision, Used), LeaderError> {
        let machines = release::machines(&self.config);
        let release = Release::compile(&source, &machines);
        let mut secrets = Secrets::new(self.env.iter().cloned(), Some(&self.store), drafts);
        let bundles = release.render(&machines, &machines, &mut secrets, number)?;
        let revision = Revision {
            number,
            created: clock::now(),
            author: request.author.clone(),
            message: request.message.clone(),
            release: release.settings.release,
            rolled_back_to: None,
            source,
            bundles,
        };
        Ok((revision, secrets.used()))
    }

    /// What publishing would change.
    pub fn plan(&self) -> Result<Publication, LeaderError> {
        let publication = |revision, new, changes| Publication { revision, new, changes, pushes: Vec::new() };
        Ok(match self.next(&Request::default())? {
            Next::Same(last, _) => publication(last.number, false, Vec::new()),
            Next::New { last, changes, .. } => publication(last, true, changes),
        })
    }

    /// Validates, renders and stores; the new revision and what it changes. An
    /// invalid edit changes nothing; an edit that changes nothing is no revision.
    pub fn publish(&mut self, request: &Request) -> Result<(Published, Publication), LeaderError> {
        let publication = |revision, new, changes| Publication { revision, new, changes, pushes: Vec::new() };
        match self.next(request)? {
            Next::Same(last, secrets) => {
                // New values of secrets that no file holds: nothing to publish, and nothing to wait for.
                self.store.settle(&secrets.fresh)?;
                let publication = publication(last.number, false, Vec::new());
                Ok((Published::new(*last), publication))
            }
            Next::New { revision, secrets, changes, .. } => {
                self.store.insert(&revision, &secrets)?;
                let number = revision.number;
                tracing::info!(
                    revision = number,
                    author = request.author,
                    machines = revision.bundles.len(),
                    "published"
                );
                Ok((Published::new(*revision), publication(number, true, changes)))
            }
        }
    }

    /// What publishing now would come to. What is compared is rendered with the
    /// last revision's number, so that templates that print it don't differ for ever.
    fn next(&self, request: &Request) -> Result<Next, LeaderError> {
        let last = self.store.latest()?;
        if let Some(last) = &last {
            let (again, secrets) = self.render(last.number, request)?;
            if again.source == last.source && again.bundles == last.bundles {
                return Ok(Next::Same(Box::new(last.clone()), secrets));
            }
        }
        let number = last.as_ref().map_or(0, |last| last.number);
        let (revision, secrets) = self.render(number + 1, request)?;
        let changes = self.changes(last.as_ref(), &revision, &secrets)?;
        Ok(Next::New { last: number, revision: Box::new(revision), secrets, changes })
    }

    /// Masked by every value that ever was a secret's.
    fn changes(
        &self,
        last: Option<&Revision>,
        next: &Revision,
        secrets: &Used,
    ) -> Result<Vec<MachineChange>, LeaderError> {
        let none = difference::Bundles::new();
        let before = last.map_or(&none, |last| &last.bundles);
        let mask = Mask::new(self.store.rendered_secrets()?.union(&secrets.values));
        Ok(difference::between(before, &next.bundles, &mask))
    }
}
