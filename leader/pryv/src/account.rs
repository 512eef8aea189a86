//! What the import did, and what a person should look at. Never a secret's value.

use std::fmt;

/// The account of an import.
#[derive(Debug, Default)]
pub struct Account {
    /// What was done, one sentence each.
    pub did: Vec<String>,
    /// What a person should look at.
    pub look: Vec<String>,
    /// Repairs of the old files, as diffs; they were made while reading, and nowhere else.
    pub repairs: Vec<String>,
    maybe_secrets: Vec<String>,
}

impl Account {
    pub(crate) fn did(&mut self, what: impl Into<String>) {
        self.did.push(what.into());
    }

    pub(crate) fn look(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.look.contains(&what) {
            self.look.push(what);
        }
    }

    pub(crate) fn maybe_secret(&mut self, name: &str) {
        self.maybe_secrets.push(name.to_owned());
    }

    pub(crate) fn close(&mut self) {
        if !self.maybe_secrets.is_empty() {
            let names = std::mem::take(&mut self.maybe_secrets).join(", ");
            self.look(format!(
                "these settings look like secrets and stand in platform.yml in the clear, as before; secret: true in templates/settings.yml and lockstep secrets set keep them sealed: {names}"
            ));
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diff in &self.repairs {
            writeln!(f, "Not valid YAML, and read as if it were:\n{}", diff.trim_end())?;
        }
        writeln!(f, "What was done:")?;
        for line in &self.did {
            writeln!(f, "  - {line}")?;
        }
        if !self.look.is_empty() {
            writeln!(f, "What to look at:")?;
            for line in &self.look {
                writeln!(f, "  - {line}")?;
            }
        }
        Ok(())
    }
}
