//! Publishing: from the files on disk to a stored revision, one at a time, with
//! or without a running leader around it.

use crate::config::{Config, FILE};
use crate::fleet::Heard;
use crate::leader::LeaderError;
use crate::memo::Memo;
use crate::migration;
use crate::platform::Platform;
use crate::publication::{Outline, Publication};
use crate::published::Published;
use crate::release::{self, Release};
use crate::rollout::state::{Ground, Rollout};
use crate::rollout::strategy::Strategy;
use crate::rollout::{Fresh, Launch, Standing, bundles, digests};
use crate::roster;
use crate::secrets::{Drafts, Secrets, Used};
use crate::source::{PLATFORM, Source};
use crate::store::{DATABASE, Revision, Store};
use lockstep_edge::clock;
use lockstep_shared::{Name, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Publishes: one at a time, with or without a running leader around it.
pub struct Press {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) env: Vec<(String, String)>,
    /// What was rendered before.
    memo: Memo,
    /// What the store said is published, while it is still the last.
    last: Option<Arc<Revision>>,
}

/// What publishing needs to know.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Who.
    pub author: String,
    /// Why.
    pub message: String,
    /// Only if this is the plan, by its id: what the author was shown.
    pub plan: Option<String>,
    /// How it goes out.
    pub launch: Launch,
}

/// What publishing would come to.
struct Next {
    /// What is published; `None` on a new platform.
    last: Option<Arc<Revision>>,
    /// What would be; `None` where it is the last revision again.
    revision: Option<Arc<Revision>>,
    /// The secrets' values that went into it.
    secrets: Used,
    /// Names all of this.
    plan: String,
}

impl Press {
    /// Opens the store for publishing; fails while another leader has it.
    pub fn open(config: Config, env: Vec<(String, String)>) -> Result<Self, LeaderError> {
        // Looking at the wrong folder must not make a store there.
        let home = [&config.platform, &config.templates, &config.state.join(DATABASE), &config.root().join(FILE)];
        if !home.iter().any(|path| path.exists()) {
            return Err(LeaderError::Unknown(format!(
                "there is no platform in {}: name its home with --root, or make one with lockstep init-platform",
                config.root().display()
            )));
        }
        let store = Store::open(&config.state)?;
        roster::load(&config.members, &store)?;
        Ok(Self { config, store, env, memo: Memo::default(), last: None })
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
        self.given(secret).is_some()
    }

    /// The value that the environment gives a secret.
    pub(crate) fn given(&self, secret: &str) -> Option<&str> {
        let given = self.env.iter().find(|(name, _)| name.strip_prefix(crate::secrets::ENV) == Some(secret));
        given.map(|(_, value)| value.as_str())
    }

    /// What is published, as it is; nothing on a new platform.
    pub fn published(&self) -> Result<Published, LeaderError> {
        Ok(Published::new(self.store.latest()?.unwrap_or_default()))
    }

    /// What to serve at start: the last published revision, brought up to the
    /// declared machines; or, on a new platform, the first one.
    pub fn start(&mut self) -> Result<Published, LeaderError> {
        let Some(last) = self.store.latest()? else {
            let (author, message) = ("leader".to_owned(), "first revision".to_owned());
            let (fresh, _) = self.publish(&Request { author, message, ..Request::default() })?;
            return fresh.map_or_else(|| self.published(), |fresh| Ok(fresh.published));
        };
        if let Some(fresh) = self.follow("the declared followers changed", None)? {
            return Ok(fresh.published);
        }
        self.warn_if_edited(&last);
        Ok(Published::new(last))
    }

    /// A revision for the machines that follow now, where they are others than
    /// those of the last one. It is rendered from what was published: never from
    /// an edit that nobody published, nor from what was published and failed.
    pub(crate) fn follow(&mut self, why: &str, standing: Option<Standing>) -> Result<Option<Fresh>, LeaderError> {
        let Some(last) = self.last()? else { return Ok(None) };
        let machines = release::machines(&self.config);
        let same = last.bundles.len() == machines.len()
            && machines
                .iter()
                .all(|machine| last.bundles.get(&machine.name).is_some_and(|bundle| bundle.role == machine.role));
        if same {
            return Ok(None);
        }
        let rollout = match &standing {
            Some(standing) => standing.rollout.clone(),
            None => self.store.rollout(last.number)?,
        };
        let good = rollout.as_ref().filter(|rollout| !rollout.goes_on()).and_then(Rollout::good);
        let (source, message) = match good.map(|good| self.store.revision(good)).transpose()?.flatten() {
            Some(good) => (good.source, format!("{why}; from revision {}", good.number)),
            None => (last.source.clone(), why.to_owned()),
        };
        let request = Request {
            author: "leader".to_owned(),
            message,
            launch: Launch { standing, ..Launch::default() },
            ..Request::default()
        };
        let (revision, secrets) = self.make(source, last.number + 1, &request, Drafts::Ignored)?;
        let strategy = match rollout.filter(Rollout::is_running) {
            Some(running) => running.strategy,
            None => self.config.rollout.clone(),
        };
        let rollout = self.insert(&revision, &secrets, strategy, &request.launch)?;
        tracing::info!(revision = revision.number, "{why}: published a revision for the machines that follow now");
        self.last = Some(Arc::new(revision.clone()));
        Ok(Some(Fresh { published: Published::new(revision), rollout }))
    }

    /// The roles that the published release has templates for; on a new platform, those on disk.
    pub(crate) fn roles(&mut self) -> Result<Vec<Name>, LeaderError> {
        let source = match self.last()? {
            Some(last) => last.source.clone(),
            None => Source::read(&self.config.platform, &self.config.templates)?,
        };
        let release = Release::compile(&source, &[], &mut self.memo);
        Ok(release.compiled.templates.roles.keys().cloned().collect())
    }

    /// Stores a revision and how it goes out, all of it or nothing.
    pub(crate) fn insert(
        &mut self,
        revision: &Revision,
        secrets: &Used,
        strategy: Strategy,
        launch: &Launch,
    ) -> Result<Rollout, LeaderError> {
        let now = clock::now();
        let last = self.last()?;
        let number = last.as_ref().map_or(0, |last| last.number);
        // Without a leader nobody was heard from lately: machines come in the order of their names.
        let (known, alive) = match &launch.standing {
            Some(standing) => (standing.rollout.clone(), standing.alive(now)),
            None => (self.store.rollout(number)?, BTreeSet::new()),
        };
        let ground = Ground {
            last: known.as_ref(),
            revision: number,
            digests: &last.as_deref().map(digests).unwrap_or_default(),
            alive: &|name| alive.contains(name),
            now,
        };
        let rollout = Rollout::begin(revision.number, &bundles(revision), strategy, &ground);
        self.store.insert_with(revision, secrets, |store| store.put_rollout(&rollout))?;
        Ok(rollout)
    }

    /// How a publication goes out. The error says which wish can't be granted.
    pub(crate) fn strategy(&self, launch: &Launch) -> Result<Strategy, LeaderError> {
        for name in launch.wish.canary.iter().flatten() {
            if !self.config.members.get(name.as_str()).is_some_and(|member| member.active()) {
                return Err(LeaderError::Conflict(format!(
                    "nothing was published: {name}, wanted as a canary, is not a follower of this leader (lockstep status names them)"
                )));
            }
        }
        let strategy = self.config.rollout.with(&launch.wish);
        strategy.map_err(|error| LeaderError::Conflict(format!("nothing was published: {error}")))
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

    /// A revision from a source, and the secrets' values that went into it.
    fn make(
        &mut self,
        source: Source,
        number: u64,
        request: &Request,
        drafts: Drafts,
    ) -> Result<(Revision, Used), LeaderError> {
        let machines = release::machines(&self.config);
        // What was published may name machines that have left since.
        let also = match drafts {
            Drafts::Ignored => source.text(PLATFORM).ok().flatten().map(Platform::machines_named).unwrap_or_default(),
            Drafts::Read | Drafts::Kept => self.config.members.disabled(),
        };
        let mut release = Release::compile_naming(&source, &machines, &also, &mut self.memo);
        if matches!(drafts, Drafts::Ignored) {
            release = release.as_published();
        }
        let mut secrets = Secrets::new(self.env.iter().cloned(), Some(&self.store), drafts);
        let bundles = release.render(&machines, &machines, &mut secrets, number, &mut self.memo)?;
        let revision = Revision {
            number,
            created: clock::now(),
            author: request.author.clone(),
            message: request.message.clone(),
            release: release.compiled.settings.release.clone(),
            rolled_back_to: None,
            source,
            bundles,
        };
        Ok((revision, secrets.used()))
    }

    /// What publishing would change; with what was `heard` of followers, also what that means for containers.
    pub fn plan(&mut self, heard: Option<&Heard>) -> Result<Publication, LeaderError> {
        let next = self.next(&Request::default())?;
        Ok(self.outline(&next)?.told(heard))
    }

    /// What publishing this would change, whatever is on disk.
    pub(crate) fn plan_of(&mut self, source: Source, heard: Option<&Heard>) -> Result<Publication, LeaderError> {
        let next = self.next_of(source, &Request::default())?;
        Ok(self.outline(&next)?.told(heard))
    }

    /// Validates, renders and stores; the new revision, if it is one, and what
    /// there is to tell of it. An invalid edit changes nothing; an edit that
    /// changes nothing is no revision.
    pub fn publish(&mut self, request: &Request) -> Result<(Option<Fresh>, Outline), LeaderError> {
        let strategy = self.strategy(&request.launch)?;
        let next = self.next(request)?;
        if let Some(wanted) = request.plan.as_ref().filter(|wanted| **wanted != next.plan) {
            return Err(LeaderError::Conflict(format!(
                "nothing was published: plan {wanted} was made of something else than what is on disk and published now (plan {}): look again with lockstep plan",
                next.plan
            )));
        }
        let mut outline = self.outline(&next)?;
        let Some(revision) = next.revision else {
            // New values of secrets that no file holds: nothing to publish, and nothing to wait for.
            self.store.settle(&next.secrets.fresh)?;
            return Ok((None, outline));
        };
        outline.publication.strategy = strategy.to_string();
        outline.publication.waves = strategy.has_waves();
        let rollout = self.insert(&revision, &next.secrets, strategy, &request.launch)?;
        tracing::info!(
            revision = revision.number,
            author = request.author,
            machines = revision.bundles.len(),
            "published"
        );
        outline.publication.revision = revision.number;
        self.last = Some(revision.clone());
        Ok((Some(Fresh { published: Published::new(Arc::unwrap_or_clone(revision)), rollout }), outline))
    }

    /// The last revision. It stays in memory for as long as the store knows no later one.
    fn last(&mut self) -> Result<Option<Arc<Revision>>, LeaderError> {
        let number = self.store.last_number()?;
        if self.last.as_ref().is_none_or(|last| last.number != number) {
            self.last = self.store.latest()?.map(Arc::new);
        }
        Ok(self.last.clone())
    }

    /// What publishing now would come to.
    fn next(&mut self, request: &Request) -> Result<Next, LeaderError> {
        let source = Source::read(&self.config.platform, &self.config.templates)?;
        migration::check(&source, self.published_release()?.as_deref())?;
        self.next_of(source, request)
    }

    /// The same for a source. What is compared is rendered with the last
    /// revision's number, so that templates that print it don't differ for ever.
    fn next_of(&mut self, source: Source, request: &Request) -> Result<Next, LeaderError> {
        let last = self.last()?;
        // Another source is another revision in any case.
        if let Some(known) = last.as_ref().filter(|known| known.source == source) {
            let (again, secrets) = self.make(source.clone(), known.number, request, Drafts::Kept)?;
            if again.bundles == known.bundles {
                return Ok(Next { plan: plan_id(last.as_deref(), None), last, revision: None, secrets });
            }
        }
        let number = last.as_ref().map_or(0, |last| last.number);
        let (revision, secrets) = self.make(source, number + 1, request, Drafts::Kept)?;
        let plan = plan_id(last.as_deref(), Some(&revision));
        Ok(Next { plan, last, revision: Some(Arc::new(revision)), secrets })
    }

    /// For people: what changes, masked by every value that ever was a secret's.
    fn outline(&self, next: &Next) -> Result<Outline, LeaderError> {
        let publication = Publication {
            strategy: String::new(),
            waves: false,
            before: None,
            plan: next.plan.clone(),
            revision: next.last.as_ref().map_or(0, |last| last.number),
            new: next.revision.is_some(),
            changes: Vec::new(),
            pushes: Vec::new(),
            warnings: self.memo.remarks(),
        };
        let mut secrets = self.store.rendered_secrets()?;
        secrets.extend(next.secrets.values.iter().cloned());
        Ok(Outline { publication, before: next.last.clone(), after: next.revision.clone(), secrets })
    }
}

/// Names a plan: the same for the same last revision, source and bundles, and for nothing else.
fn plan_id(last: Option<&Revision>, next: Option<&Revision>) -> String {
    let mut told = format!("{}\n", last.map_or(0, |last| last.number));
    for (name, file) in next.into_iter().flat_map(|next| &next.source.files) {
        told += &format!("{name}\0{}\0{}\n", file.sha256, file.executable);
    }
    for (name, bundle) in next.into_iter().flat_map(|next| &next.bundles) {
        told += &format!("{name}\0{}\0{}\n", bundle.role, bundle.digest);
    }
    Sha256::of(told.as_bytes()).to_string()[..16].to_owned()
}
