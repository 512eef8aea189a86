//! A question to the person at the terminal.

use crate::exit::Failed;
use std::io::Write as _;

/// Whether the answer is yes, which just pressing return means too: the same
/// that `--yes` says. Only where standard input is a terminal.
pub(super) fn ask(question: &str) -> Result<bool, Failed> {
    let mut out = std::io::stderr().lock();
    write!(out, "{question}? [Y/n] ")?;
    out.flush()?;
    let mut answer = String::new();
    // The end of the input is nobody's answer.
    if std::io::stdin().read_line(&mut answer)? == 0 {
        return Ok(false);
    }
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

/// Whether the answer is `yes`, in full: for what nobody should agree to by pressing return.
pub(super) fn ask_plainly(question: &str) -> Result<bool, Failed> {
    let mut out = std::io::stderr().lock();
    write!(out, "{question}? Type yes if so: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
