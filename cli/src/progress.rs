//! What stands in the terminal while something takes longer than a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What is over sooner is not worth a line that appears and goes.
const SOON: Duration = Duration::from_secs(1);

/// A line on standard error, where that is a terminal; gone when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    _ends: mpsc::Sender<()>,
}

impl Progress {
    /// Begins with these words; they are shown once a second is over.
    pub(crate) fn begin(words: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(words.to_owned());
        let (ends, ended) = mpsc::channel::<()>();
        if std::io::stderr().is_terminal() {
            let bar = bar.clone();
            std::thread::spawn(move || {
                if ended.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(Duration::from_millis(250));
                }
            });
        }
        Self { bar, _ends: ends }
    }

    /// Other words.
    pub(crate) fn say(&self, words: &str) {
        self.bar.set_message(words.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
