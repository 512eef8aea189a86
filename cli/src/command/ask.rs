//! A question to the person at the terminal.

use crate::exit::Failed;
use std::io::Write as _;

/// What just pressing return means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    Yes,
    No,
}

/// Whether the answer is yes. Only where standard input is a terminal.
pub(super) fn ask(question: &str, silence: Return) -> Result<bool, Failed> {
    let choices = if silence == Return::Yes { "[Y/n]" } else { "[y/N]" };
    let mut out = std::io::stderr().lock();
    write!(out, "{question}? {choices} ")?;
    out.flush()?;
    let mut answer = String::new();
    // The end of the input is nobody's answer.
    if std::io::stdin().read_line(&mut answer)? == 0 {
        return Ok(false);
    }
    Ok(match answer.trim() {
        "" => silence == Return::Yes,
        answer => matches!(answer, "y" | "Y" | "yes"),
    })
}
