//! Work that stands back: what a publication's author reads of it is made while
//! followers fetch it and, on the same machine, apply it.

use super::refusal::Refusal;
use lockstep_edge::trace;
use lockstep_shared::Problem;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;

/// Below everything else (nice(1)).
const NICENESS: i32 = 19;

/// Does `work` on a thread of its own that leaves the processors to all others first.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let (done, result) = oneshot::channel();
    let work = trace::carried(move || {
        // On Linux a thread's own; where that isn't allowed the work is merely not set back.
        let _ = setpriority_process(Some(gettid()), NICENESS);
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
