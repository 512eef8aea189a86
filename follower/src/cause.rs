//! The request that an apply goes back to: what this follower asks and tells
//! its leader because of it carries the same name, and so do its log lines.

use lockstep_edge::trace::RequestId;
use lockstep_shared::api::{State, Status};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The cause of what is done now, if it has a name.
#[derive(Debug, Default)]
pub struct Cause(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    request: RequestId,
    /// What it leads to: an apply that was promised, or else one of this revision.
    apply: Option<String>,
    revision: u64,
}

impl Cause {
    fn slot(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notification came, and was promised this apply. Of several the last one counts.
    pub fn notified(&self, request: RequestId, apply: &str, revision: u64) {
        *self.slot() = Some(Known { request, apply: Some(apply.to_owned()), revision });
    }

    /// A bundle came that was published by this request: it counts where no notification did.
    pub fn came(&self, request: RequestId, revision: u64) {
        self.slot().get_or_insert(Known { request, apply: None, revision });
    }

    /// The name, as long as what it led to isn't over and told.
    pub fn request(&self) -> Option<RequestId> {
        self.slot().as_ref().map(|known| known.request.clone())
    }

    /// The leader was told this: the end of what the request led to ends it.
    pub fn told(&self, status: &Status) {
        let Some(apply) = status.apply.as_ref().filter(|_| status.state != State::Applying) else { return };
        self.slot()
            .take_if(|known| known.apply.as_ref().map_or(known.revision == apply.revision, |id| *id == apply.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::new_apply;
    use lockstep_shared::api::Apply;

    #[test]
    fn a_cause_lasts_until_its_end_was_told() {
        let cause = Cause::default();
        let (first, second) = (RequestId::new(), RequestId::new());
        let status = |state, id: &str, revision| Status {
            state,
            apply: Some(Apply { revision, ..new_apply(id.to_owned()) }),
            ..Status::default()
        };
        cause.came(first.clone(), 4);
        cause.came(second.clone(), 5);
        assert_eq!(cause.request(), Some(first));
        cause.notified(second.clone(), "b", 5);
        cause.told(&status(State::Applied, "a", 4));
        cause.told(&status(State::Applying, "b", 5));
        assert_eq!(cause.request(), Some(second.clone()));
        cause.told(&status(State::Failed, "b", 5));
        assert_eq!(cause.request(), None);
        cause.came(second, 5);
        cause.told(&status(State::Applied, "c", 5));
        assert_eq!(cause.request(), None);
    }
}
