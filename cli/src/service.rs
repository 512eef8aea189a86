//! What both long-running commands do: log to standard error, say `ready` on
//! standard output and to systemd, and stop on SIGTERM or SIGINT.

use crate::exit::{Failed, failed};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How log lines are written: `LOCKSTEP_LOG_FORMAT`.
const FORMAT: &str = "LOCKSTEP_LOG_FORMAT";
/// When a start is over: a follower has its first bundle by then.
const STARTED: Duration = Duration::from_secs(2);
/// Between two looks at whether it idles, from then on.
const LOOK: Duration = Duration::from_secs(5);
/// Whoever took less of the processors since the last look does nothing; whoever took more since memory was given back
/// has some to give.
const LITTLE: Duration = Duration::from_millis(1);

/// Logs to standard error, one line an event; `LOCKSTEP_LOG` sets the level
/// (`info`), `LOCKSTEP_LOG_FORMAT` whether lines are for people (`text`) or
/// objects for programs (`json`; `docs/monitoring.md` has their fields).
pub(crate) fn log() -> Result<(), Failed> {
    let filter = EnvFilter::try_from_env("LOCKSTEP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that can't be written, on a full disk, is lost: told on the same standard error it would end the program.
    let lines = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter);
    let lines = lines.with_writer(std::io::stderr).with_target(false);
    let format = std::env::var(FORMAT).unwrap_or_default();
    let _ = match format.as_str() {
        "json" => lines.json().flatten_event(true).with_span_list(false).try_init(),
        "" | "text" => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        other => return Err(failed(format!("{FORMAT} is {other:?}: set it to text or json, or leave it out"))),
    };
    Ok(())
}

/// Turns true on SIGTERM or SIGINT. To be called within a runtime.
pub(crate) fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        let _ = sender.send(true);
    });
    Ok(receiver)
}

/// The one line on standard output; what it took to get there is not kept. To be called within a runtime.
pub(crate) fn ready(tls: bool, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready {}://{address}", if tls { "https" } else { "http" });
    let _ = out.flush();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(stay_small());
}

/// Gives back what of the program nothing needs: soon after the start, then whenever something was done and nothing
/// is any more.
async fn stay_small() {
    tokio::time::sleep(STARTED).await;
    loop {
        match lockstep_resident::give_back_program() {
            Ok(bytes) => tracing::trace!(bytes, "gave the program's memory back"),
            Err(error) => return tracing::debug!(%error, "keeps the program's memory"),
        }
        done().await;
    }
}

/// Resolves once something was done and nothing is any more.
async fn done() {
    let start = processor_time();
    let (mut before, mut now) = (start, start);
    while now.saturating_sub(before) >= LITTLE || now.saturating_sub(start) <= LITTLE {
        tokio::time::sleep(LOOK).await;
        (before, now) = (now, processor_time());
    }
}

/// What this process has taken of the processors so far.
fn processor_time() -> Duration {
    let taken = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    taken.try_into().unwrap_or_default()
}
