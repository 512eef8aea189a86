//! Asks for a secret on a terminal, without showing what is typed.

use crate::exit::{Failed, failed};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{Read as _, Stdin, Write as _};
use zeroize::Zeroizing;

/// Puts the terminal back as it was, however the question ends.
struct Silence(Stdin, Termios);

impl Silence {
    fn begin() -> Result<Self, Failed> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut silent = before.clone();
        // Signals off too: Ctrl-C would leave the terminal silent. It comes as a byte instead.
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
        Ok(Self(stdin, before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.0, OptionalActions::Flush, &self.1);
    }
}

/// One line.
pub(crate) fn ask(question: &str) -> Result<Zeroizing<String>, Failed> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let silence = Silence::begin()?;
    let mut line = Zeroizing::new(Vec::with_capacity(256));
    let mut byte = [0];
    let whole = loop {
        if silence.0.lock().read(&mut byte)? == 0 {
            break false;
        }
        match byte[0] {
            b'\r' | b'\n' => break true,
            3 | 4 => break false,
            8 | 127 => {
                // A whole character: its continuation bytes too.
                while line.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
            }
            other => line.push(other),
        }
    };
    drop(silence);
    writeln!(terminal)?;
    if !whole {
        return Err(failed("nothing was set"));
    }
    String::from_utf8(line.to_vec()).map(Zeroizing::new).map_err(|_| failed("that is not text in UTF-8"))
}
