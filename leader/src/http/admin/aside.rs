//! Work that stands back: what a publication's author reads of it is made while
//! followers fetch it and, on the same machine, apply it.

use super::refusal::Refusal;
use lockstep_edge::trace;
use lockstep_shared::Problem;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;

/// For the kernel such a processor is as good as idle: it brings others' work there (sched(7)), which a low priority
/// alone does not.
const LEAST: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);

/// Does `work` on a thread of its own that leaves the processors to all others first.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let (done, result) = oneshot::channel();
    let work = trace::carried(move || {
        // Where that isn't allowed the work is merely not set back.
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, LEAST);
        let _ = done.send(work());
    });
    let begun = std::thread::Builder::new().name("aside".to_owned()).spawn(work);
    match (begun, result.await) {
        (Ok(_), Ok(result)) => Ok(result),
        (begun, _) => {
            let error = begun.err().map_or_else(|| "it ended in a panic".to_owned(), |error| error.to_string());
            tracing::error!("what was done could not be told: {error}");
            Err(Problem::new(500, "internal", "It was done, but could not be told", "lockstep history shows it").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_runs_on_what_processors_have_left() {
        let policy = aside(thread_priority::thread_schedule_policy).await.ok().unwrap();
        assert_eq!(policy.unwrap(), LEAST);
        assert_ne!(thread_priority::thread_schedule_policy().unwrap(), LEAST, "and nothing else does");
    }
}
