//! What the commands that look back share: the running leader's answer, or
//! without one the store's.

use super::{leader_config, say};
use crate::exit::Failed;
use crate::moment;
use crate::socket::Socket;
use lockstep_leader::history::{Entry, History};
use lockstep_leader::leader::LeaderError;
use lockstep_leader::platform::edited::Edited;
use lockstep_leader::store::{Touch, Touched};
use serde::de::DeserializeOwned;
use std::path::Path;

/// How many settings are named.
const NAMED: usize = 4;

/// Asks the leader for `path` with a query; without a leader reads the store.
pub(super) async fn look<T: DeserializeOwned>(
    root: &Path,
    path: &str,
    query: &[(&str, Option<String>)],
    offline: impl FnOnce(&History) -> Result<T, LeaderError>,
) -> Result<T, Failed> {
    let config = leader_config(root)?;
    if let Some(socket) = Socket::find(&config)? {
        return socket.get(&target(path, query)?).await;
    }
    let found = offline(&History::open(&config.state)?)?;
    say("no leader is running: read from the store");
    Ok(found)
}

/// A path with a query, encoded.
pub(super) fn target(path: &str, query: &[(&str, Option<String>)]) -> Result<String, Failed> {
    let given = query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    let mut url = reqwest::Url::parse("http://leader")?.join(path)?;
    url.query_pairs_mut().extend_pairs(given);
    Ok(url.as_str().trim_start_matches("http://leader").to_owned())
}

/// One line about a revision.
pub(super) fn line(entry: &Entry) -> String {
    let mut line = format!("revision {}, {}, by {}", entry.number, moment::local(&entry.time), plain(&entry.author));
    if !entry.message.is_empty() {
        line += &format!(": {}", plain(&entry.message));
    }
    line
}

/// What a revision changed, in a few words: settings, then machines.
pub(super) fn changed(entry: &Entry) -> String {
    let mut lines = Vec::new();
    let setting = |edited: &Edited| match &edited.machine {
        Some(machine) => format!("{} of {machine}", edited.setting),
        None => edited.setting.clone(),
    };
    let named: Vec<String> = entry.edited.iter().take(NAMED).map(setting).collect();
    if !named.is_empty() {
        lines.push(listed(&named, entry.edited.len()));
    }
    lines.extend(entry.touched.iter().map(touched));
    if entry.touched.is_empty() {
        lines.push("no machine's files".to_owned());
    }
    lines.join("\n")
}

fn touched(touched: &Touched) -> String {
    let machines = listed(&touched.machines, touched.machine_count);
    match touched.touch {
        Touch::New => format!("{machines}: new"),
        Touch::Gone => format!("{machines}: gone"),
        Touch::Changed if touched.file_count == 0 => format!("{machines}: role"),
        Touch::Changed => format!("{machines}: {}", listed(&touched.files, touched.file_count)),
    }
}

/// The first few names, and how many more there are.
fn listed(names: &[impl ToString], all: usize) -> String {
    let mut text = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if all > names.len() {
        text += &format!(" and {} more", all - names.len());
    }
    text
}

/// What somebody typed, on one line of its own: control characters can't make it look like another.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
