//! Where what the original does is an accident, a person decides: the same
//! bytes as before, or what was most likely meant.

use crate::ImportError;
use crate::old::Old;
use crate::table::{Rules, Table, Whence};
use std::collections::BTreeMap;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accident {
    /// A name is replaced within a longer word.
    NamesInWords,
    /// A setting's value names a secret, and so puts it where the setting goes.
    SecretsInSettings,
    /// Files are left out, since others have the same base name.
    EqualBaseNames,
    /// Bytes that are no UTF-8 text are replaced.
    Binary,
}

impl Accident {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NamesInWords, Self::SecretsInSettings, Self::EqualBaseNames, Self::Binary];

    /// The option that answers it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::NamesInWords => "--names-in-words",
            Self::SecretsInSettings => "--secrets-in-settings",
            Self::EqualBaseNames => "--equal-base-names",
            Self::Binary => "--binary",
        }
    }

    /// What it is, in one sentence.
    pub fn said(self) -> &'static str {
        match self {
            Self::NamesInWords => "Names of settings stand within longer words, and the original replaces them there",
            Self::SecretsInSettings => "Values of settings name secrets, and the original puts the secrets in",
            Self::EqualBaseNames => "The original leaves files out, since others of the role have the same base name",
            Self::Binary => "Files are not UTF-8 text, and the original replaces what is not by U+FFFD",
        }
    }
}

impl Accident {
    /// What comes of keeping the original's bytes.
    pub fn if_same(self) -> &'static str {
        match self {
            Self::NamesInWords => "They are replaced, as before.",
            Self::SecretsInSettings => "Those settings become secrets themselves, each with the text that it had.",
            Self::EqualBaseNames => "They are left out, as before.",
            Self::Binary => "They stay as the original served them, which is not what stands in its data folder.",
        }
    }

    /// What comes of the other answer.
    pub fn if_meant(self) -> &'static str {
        match self {
            Self::NamesInWords => "only whole words are replaced",
            Self::SecretsInSettings => "the secret's name stays in the text as it is",
            Self::EqualBaseNames => "all files are taken over",
            Self::Binary => "they are taken over as they stand in the data folder",
        }
    }
}

/// The answer to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// As the original does: every file keeps its bytes.
    Same,
    /// As it was most likely meant.
    Meant,
}

/// The answers to all; one that is missing was not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<Accident, Answer>);

impl Answers {
    /// Gives an answer.
    pub fn set(&mut self, accident: Accident, answer: Answer) {
        self.0.insert(accident, answer);
    }

    /// The answer that was given.
    pub fn given(&self, accident: Accident) -> Option<Answer> {
        self.0.get(&accident).copied()
    }

    /// Whether the original's bytes are kept; they are, where nobody said anything.
    pub fn same(&self, accident: Accident) -> bool {
        self.given(accident) != Some(Answer::Meant)
    }

    /// What follows for names in texts.
    pub fn rules(&self) -> Rules {
        Rules {
            in_words: self.same(Accident::NamesInWords),
            secrets_in_settings: self.same(Accident::SecretsInSettings),
        }
    }
}

/// Something to decide.
#[derive(Debug)]
pub struct Question {
    /// What.
    pub accident: Accident,
    /// Where it happens, one line each. No secret's value.
    pub where_: Vec<String>,
}

impl Old {
    /// What names stand for.
    pub fn table(&self, rules: Rules) -> Result<Table, ImportError> {
        let settings = self.platform.all().map(|var| (var.name.clone(), var.value.clone()));
        let internals = self.internals.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        Table::new(settings, internals, rules).map_err(|error| ImportError::Other(error.to_string()))
    }

    /// What has to be decided for this installation.
    pub fn questions(&self) -> Result<Vec<Question>, ImportError> {
        let table = self.table(Rules::ORIGINAL)?;
        let mut found: BTreeMap<Accident, Vec<String>> = BTreeMap::new();
        let mut tell = |accident, line: String| {
            let lines = found.entry(accident).or_default();
            if !lines.contains(&line) {
                lines.push(line);
            }
        };
        for role in &self.roles {
            for file in &role.files {
                let at = format!("{}/{}", role.name, file.path);
                if let Some(other) = &file.dropped_for {
                    tell(Accident::EqualBaseNames, format!("{at} is left out for {}/{other}", role.name));
                    continue;
                }
                if file.binary {
                    tell(Accident::Binary, at.clone());
                }
                for word in table.in_words(&file.text) {
                    tell(Accident::NamesInWords, format!("{at}:{}: {} in {}", word.line, word.name, word.word));
                }
            }
        }
        for (index, (name, entry)) in table.entries().iter().enumerate() {
            let Some(value) = &entry.value else { continue };
            // What a value looks like is nobody's business.
            for word in table.in_words(&value.printed()) {
                tell(Accident::NamesInWords, format!("the value of {name}: {} within a longer word", word.name));
            }
            if entry.whence == Whence::Internal {
                continue;
            }
            let secrets = table.secrets_in(index);
            if !secrets.is_empty() {
                tell(Accident::SecretsInSettings, format!("{name} takes in {}", secrets.join(", ")));
            }
        }
        Ok(found.into_iter().map(|(accident, where_)| Question { accident, where_ }).collect())
    }
}
