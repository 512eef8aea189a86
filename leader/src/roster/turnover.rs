//! What follows from a change of who follows: at the gate, for the pushes, for
//! the rollout that is under way, and as a revision for the others.

use super::{RosterError, Rotation};
use crate::audit::Event;
use crate::leader::{Leader, LeaderError};
use crate::store::StoredFollower;
use http::Request;
use hyper::body::Incoming;
use lockstep_edge::gate::{Admitted, By, Reply, Seal, reply};
use lockstep_shared::{Name, Problem};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use zeroize::Zeroizing;

/// What a change of who follows came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A revision was published for the machines that follow now.
    Published(u64),
    /// None was needed, or no leader runs that could serve one: it is published at the next start.
    Nothing,
    /// None could be made: why. The change itself holds.
    Failed(String),
}

/// That a follower signs, for the first time, with its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News {
    /// The key is the next one, and not the one it had.
    with_next: bool,
}

impl Leader {
    /// Lets a follower's request in. What it proves of the follower's key is
    /// durable before the request is answered.
    pub(crate) async fn admit(self: &Arc<Self>, request: Request<Incoming>) -> Result<Admitted, Reply> {
        let admitted = self.gate.admit(request, &self.config.limits).await?;
        if let Some(news) = Self::news(&admitted.seal) {
            // Boxed, so that the many requests without news don't carry its room around.
            Box::pin(self.prove(&admitted.seal, news)).await?;
        }
        Ok(admitted)
    }

    /// What a request that was let in proves of its follower's key, if that is news.
    pub(crate) fn news(seal: &Seal) -> Option<News> {
        let with_next = seal.by() == By::Other;
        (with_next || seal.fresh()).then_some(News { with_next })
    }

    /// Keeps what a request proved; the error is the finished answer.
    pub(crate) async fn prove(self: &Arc<Self>, seal: &Seal, News { with_next }: News) -> Result<(), Reply> {
        let (leader, name) = (self.clone(), seal.keyid().to_owned());
        match tokio::task::spawn_blocking(move || leader.proven(&name, with_next)).await {
            Ok(Ok(())) => Ok(()),
            error => {
                tracing::error!(?error, machine = seal.keyid(), "what a follower proved of its key can't be kept");
                let problem = Problem::new(500, "internal", "The leader could not do it", "see the leader's log");
                Err(seal.sign(reply(&problem)))
            }
        }
    }

    fn proven(&self, name: &str, with_next: bool) -> Result<(), LeaderError> {
        if self.roster.proven(name, with_next)? && with_next {
            tracing::info!(machine = name, "the follower uses its new key: the old one is out");
            let me = crate::who::Actor::leader();
            let detail = "the follower uses its new key; the old one is out";
            self.audit.note(&Event { target: name, ..Event::done(&me, "key rotated", detail) });
        }
        Ok(())
    }

    /// A machine has joined. Blocks while a revision is rendered for it.
    pub(crate) fn joined(&self, name: &Name) -> Followed {
        self.follow(&format!("{name} joined"))
    }

    /// Puts a follower out at once, or lets it in again. Blocks while a revision is rendered.
    pub(crate) fn disable(&self, name: &str, by: Option<&str>) -> Result<(StoredFollower, Followed), LeaderError> {
        let follower = self.roster.disable(name, by)?;
        let what = if by.is_some() { "disabled" } else { "enabled again" };
        if by.is_some() {
            self.out(&follower.name, &format!("{} was disabled", follower.name));
        }
        Ok((follower, self.follow(&format!("{name} was {what}"))))
    }

    /// Forgets a follower at once. Blocks while a revision is rendered for the others.
    pub(crate) fn remove(&self, name: &Name) -> Result<Followed, LeaderError> {
        if self.config.rollout.canary.contains(name) {
            return Err(RosterError::Not(format!(
                "{name} is named in rollout.canary of {}, without which the leader would not start: take it out there and restart the leader, then remove it",
                crate::config::FILE
            ))
            .into());
        }
        self.roster.remove(name)?;
        self.out(name, &format!("{name} was removed"));
        Ok(self.follow(&format!("{name} was removed")))
    }

    /// Begins to give a follower a new key, where it can be told one without anybody else hearing it.
    pub(crate) fn rotate(&self, name: &str) -> Result<Rotation, LeaderError> {
        if !self.config.is_private() {
            return Err(RosterError::Not(format!(
                "this leader serves followers without TLS on {}, and a key must not travel in the clear: set \"http\": {{\"tls\": true}} in {} and restart the leader",
                self.config.http.ip,
                crate::config::FILE
            ))
            .into());
        }
        let rotation = self.roster.rotate(name)?;
        // Held long polls look again.
        self.published.send_modify(|_| {});
        Ok(rotation)
    }

    /// The key that a follower is to use from now on, if it doesn't yet, and
    /// if nobody on the way to `peer` reads the answer.
    pub(crate) fn told_key(&self, machine: &str, peer: IpAddr) -> Option<Zeroizing<String>> {
        let member = self.roster.members().get(machine)?;
        let next = member.joined.as_ref()?.next.clone()?;
        (self.config.is_private() || peer.is_loopback()).then_some(next)
    }

    /// Nobody serves it or waits for it from now on, and what it is held for ends.
    fn out(&self, name: &Name, why: &str) {
        self.rollout.out(name, why);
        // Held long polls look again, and find themselves barred.
        self.published.send_modify(|_| {});
    }

    fn follow(&self, why: &str) -> Followed {
        if !self.listens {
            return Followed::Nothing;
        }
        let mut press = self.press.lock().unwrap_or_else(PoisonError::into_inner);
        match press.follow(why, self.standing()) {
            Ok(Some(fresh)) => {
                let number = fresh.published.revision.number;
                self.serve(fresh);
                Followed::Published(number)
            }
            Ok(None) => Followed::Nothing,
            Err(error) => {
                tracing::error!(%error, "{why}, and no revision could be published for the machines that follow now");
                Followed::Failed(error.to_string())
            }
        }
    }
}
