//! Exit codes: 0 good, 1 error, 2 differences or wrong usage, 3 the fleet
//! didn't follow. Every failure is printed once.

use std::fmt::Display;
use std::process::ExitCode;

/// How a command ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// All is as wished.
    Good,
    /// There are differences.
    Different,
    /// Something is broken, and that was told on standard output.
    Broken,
    /// A follower failed or didn't answer in time.
    NotFollowed,
}

/// How a command failed: what is printed.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A failure in these words.
pub(crate) fn failed(what: impl Display) -> Failed {
    Failed(what.to_string())
}

#[allow(clippy::print_stderr)]
pub(crate) fn code(result: Result<Done, Failed>) -> ExitCode {
    match result {
        Ok(Done::Good) => ExitCode::SUCCESS,
        Ok(Done::Broken) => ExitCode::FAILURE,
        Ok(Done::Different) => ExitCode::from(2),
        Ok(Done::NotFollowed) => ExitCode::from(3),
        Err(Failed(what)) => {
            eprintln!("lockstep: {}", crate::hints::complete(&what));
            ExitCode::FAILURE
        }
    }
}
