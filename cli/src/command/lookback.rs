//! What the commands that look back share: the running leader's answer, or
//! without one the store's.

use super::{leader_config, say};
use crate::exit::Failed;
use crate::moment;
use crate::socket::Socket;
use lockstep_leader::history::{Entry, History};
use lockstep_leader::leader::LeaderError;
use lockstep_leader::store::{Touch, Touched};
use serde::de::DeserializeOwned;
use std::path::Path;

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

/// What a revision changed, in a few words.
pub(super) fn touched(touched: &[Touched]) -> String {
    if touched.is_empty() {
        return "no machine's files".to_owned();
    }
    let listed = |names: Vec<&str>, all: usize| {
        let more = all.saturating_sub(names.len());
        let mut text = names.join(", ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        text
    };
    let group = |group: &Touched| {
        let machines = listed(group.machines.iter().map(lockstep_shared::Name::as_str).collect(), group.machine_count);
        match group.touch {
            Touch::New => format!("{machines}: new"),
            Touch::Gone => format!("{machines}: gone"),
            Touch::Changed if group.file_count == 0 => format!("{machines}: role"),
            Touch::Changed => {
                let files =
                    listed(group.files.iter().map(lockstep_shared::SafePath::as_str).collect(), group.file_count);
                format!("{machines}: {files}")
            }
        }
    };
    touched.iter().map(group).collect::<Vec<_>>().join("\n")
}

/// What somebody typed, on one line of its own: control characters can't make it look like another.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
