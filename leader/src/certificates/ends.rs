//! When certificates end: the published ones of the platform, and those of TLS
//! between leader and followers. For `status`, metrics and, once a day, the log.

use super::check::{DAY, SOON, day, look};
use super::{declared, wanted};
use crate::leader::Leader;
use crate::platform::{Platform, schema};
use crate::published::Published;
use crate::release;
use crate::source::PLATFORM;
use lockstep_edge::clock;
use lockstep_shared::api::Ending;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the log is told.
const EVERY: Duration = Duration::from_hours(24);

/// The certificates of a revision, read once for each.
#[derive(Debug, Default)]
pub struct Ends(Mutex<Option<(u64, Vec<Ending>)>>);

impl Leader {
    /// The certificates in use, by name: what is published, and what TLS shows. Blocks.
    pub fn ends(&self) -> Vec<Ending> {
        let published = self.published();
        let mut known = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = published.revision.number;
        if known.as_ref().is_none_or(|(known, _)| *known != number) {
            *known = Some((number, self.public(&published)));
        }
        let mut all = known.as_ref().map(|(_, ends)| ends.clone()).unwrap_or_default();
        drop(known);
        if self.authority.acceptor().is_some() {
            let authorities = self.authority.authorities();
            all.extend(authorities.into_iter().map(|authority| Ending {
                name: authority.subject,
                public: false,
                machine: None,
                ends: authority.ends,
                unfit: Vec::new(),
            }));
        }
        all
    }

    /// Those of them that end within so many days, have ended, or would be refused already.
    pub fn ending(&self, days: i64) -> Vec<Ending> {
        let until = clock::now() + days * DAY;
        self.ends().into_iter().filter(|ending| ending.ends < until || !ending.unfit.is_empty()).collect()
    }

    /// What the published revision has.
    fn public(&self, published: &Published) -> Vec<Ending> {
        let source = &published.revision.source;
        let text = |name| source.text(name).ok().flatten().unwrap_or_default();
        // Templates are not asked for: reading them takes longer than all else.
        let settings = &schema::read(text(schema::FILE)).0;
        let machines = release::machines(&self.config);
        let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
        let platform = Platform::read(text(PLATFORM), settings, &names).0;
        let mut ends = Vec::new();
        for (name, pairing) in declared(settings) {
            let overriders = platform.overriders(name).map(|(machine, _)| Some(machine.to_owned()));
            for machine in std::iter::once(None).chain(overriders) {
                let values = platform.resolve(settings, machine.as_deref().unwrap_or_default()).0;
                let Some(chain) = values.get(name).and_then(Value::as_str) else { continue };
                // At its own beginning: that it has ended is told by `ends`.
                let begins = look(chain, None, &[], 0).facts.map_or(0, |facts| facts.begins);
                let found = look(chain, None, &wanted(pairing, &values), begins);
                if let Some(facts) = found.facts {
                    let (name, ends_at) = (name.to_owned(), facts.ends);
                    ends.push(Ending { name, public: true, machine, ends: ends_at, unfit: found.unfit });
                }
            }
        }
        ends
    }
}

/// What to do before a certificate ends.
pub fn next(ending: &Ending) -> &'static str {
    if ending.public { "renew it, then lockstep certificates set" } else { "lockstep ca rotate" }
}

/// An end in words: `TLS_CERTIFICATE ends on 2026-12-01, in 9 days: ...`.
pub fn told(ending: &Ending, now: i64) -> String {
    let whose = ending.machine.as_ref().map(|machine| format!(" of {machine}")).unwrap_or_default();
    let what = if ending.public {
        format!("the certificate {}{whose}", ending.name)
    } else {
        format!("{:?}, the authority of TLS,", ending.name)
    };
    let (next, left, on) = (next(ending), ending.ends - now, day(ending.ends));
    let unfit = ending.unfit.join("; ");
    if !unfit.is_empty() && left >= SOON * DAY {
        return format!("{what}: {unfit}");
    }
    let end = if left < 0 {
        format!("{what} ended on {on}: {next}")
    } else {
        format!("{what} ends on {on}, in {} days: {next}", left / DAY)
    };
    if unfit.is_empty() { end } else { format!("{end}; {unfit}") }
}

/// Tells the log, at the start and then once a day.
pub async fn tell(leader: Arc<Leader>) {
    loop {
        let ending = {
            let leader = leader.clone();
            tokio::task::spawn_blocking(move || leader.ending(SOON)).await
        };
        for ending in ending.unwrap_or_default() {
            tracing::warn!(certificate = ending.name, ends = day(ending.ends), "{}", told(&ending, clock::now()));
        }
        tokio::time::sleep(EVERY).await;
    }
}
