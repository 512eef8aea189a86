//! `lockstep audit`: who did what; and whether the record of it is whole.

use super::{columns, leader_config, print, print_json, say, table, whole_width};
use crate::exit::{Done, Failed, failed};
use crate::moment;
use crate::printable::printable;
use crate::socket::{Socket, escaped};
use lockstep_leader::audit::{Chained, Outcome, Record, Verdict};
use std::collections::BTreeSet;
use std::path::Path;

/// What to show or to look over.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Not before this time: 7d, 14:03, 2026-11-21, "2026-11-21 14:03"
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// At most so many records, the latest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Recompute the whole chain; exit 1 if a record was changed or is missing
    #[arg(long)]
    verify: bool,
    /// With --verify: a number and a hash that were noted earlier have to be in it
    #[arg(long, value_name = "N:HASH", requires = "verify")]
    known: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(root: &Path, options: Options) -> Result<Done, Failed> {
    let socket = Socket::or_files(leader_config(root)?)?;
    if options.verify {
        return verify(&socket, &options).await;
    }
    let mut target = format!("/admin/audit?limit={}", options.limit);
    if let Some(since) = &options.since {
        target += &format!("&since={}", moment::since(since)?);
    }
    let records: Vec<Chained> = socket.get(&target).await?;
    if options.json {
        print_json(&records)?;
    } else if records.is_empty() {
        say("nothing is recorded in that time");
    } else {
        print(&shown(&records, columns()))?;
    }
    Ok(Done::Good)
}

async fn verify(socket: &Socket, options: &Options) -> Result<Done, Failed> {
    let mut target = "/admin/audit/verdict".to_owned();
    if let Some(known) = &options.known {
        target += &format!("?known={}", escaped(known));
    }
    let verdict: Verdict = socket.get(&target).await?;
    if options.json {
        print_json(&verdict)?;
    }
    if !verdict.sound {
        let (number, why) = (verdict.first_bad.unwrap_or_default(), verdict.why.unwrap_or_default());
        return Err(failed(format!(
            "the audit is not whole: record {number}: {why}. {} records before it are sound; compare with a backup of state/ (lockstep audit --verify --known N:HASH)",
            verdict.records
        )));
    }
    if !options.json {
        print(&format!(
            "the audit is whole: {} records, head {}:{}\n",
            verdict.records, verdict.records, verdict.head
        ))?;
    }
    Ok(Done::Good)
}

/// What stands of each record, in this order.
const HEADS: [&str; 6] = ["no", "time", "who", "how", "what", "outcome"];

/// One line for what was asked and what came of it; what was only asked stands alone. Where a line is
/// wider than the terminal, what was done stands below who did it: broken words can't be searched for or copied.
fn shown(records: &[Chained], width: Option<u16>) -> String {
    let answered: BTreeSet<i64> = records.iter().filter_map(|chained| chained.record.answers).collect();
    let told = records.iter().filter(|chained| !answered.contains(&chained.record.number));
    let row = |Chained { record, .. }: &Chained| {
        [
            record.number.to_string(),
            moment::at(record.time),
            printable(&record.actor),
            printable(&record.how),
            printable(&what(record)),
            printable(&outcome(record)),
        ]
    };
    let rows: Vec<_> = told.map(row).collect();
    if width.is_some_and(|width| whole_width(HEADS, &rows, &[0, 1, 2, 3, 4, 5]) > usize::from(width)) {
        let block = |[number, time, who, how, what, outcome]: &[String; 6]| {
            format!("{number}  {time}  {who} ({how})\n    {what}\n    {outcome}\n")
        };
        return rows.iter().map(block).collect();
    }
    let mut table = table(HEADS);
    table.add_rows(rows);
    format!("{table}\n")
}

/// The route with the names in their places: `PUT /admin/settings/DOMAIN`.
fn what(record: &Record) -> String {
    let mut action = record.action.clone();
    let mut rest = String::new();
    for part in record.target.split(' ').filter(|part| !part.is_empty()) {
        match part.split_once('=').map(|(name, value)| (format!("{{{name}}}"), value)) {
            Some((hole, value)) if action.contains(&hole) => action = action.replacen(&hole, value, 1),
            _ => rest += &format!(" {part}"),
        }
    }
    action + &rest
}

/// What came of it, and more of that where there is more.
fn outcome(record: &Record) -> String {
    let outcome = match record.outcome {
        Outcome::Asked => "asked, no answer",
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Failed => "FAILED",
    };
    match record.detail.as_str() {
        "" => outcome.to_owned(),
        detail => format!("{outcome}: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_has_records_in_lines_of_their_own() {
        let record = r#"{"record":{"number":7,"time":1800000000,"actor":"zoe","how":"the unix socket, uid 0","action":"PUT /admin/settings/{name}","target":"name=DOMAIN","outcome":"done","detail":"for every machine"},"hash":""}"#;
        let records = [serde_json::from_str::<Chained>(record).unwrap()];
        assert_eq!(shown(&records, None).lines().count(), 2, "a head and a line");
        let narrow = shown(&records, Some(80));
        let lines: Vec<&str> = narrow.lines().collect();
        assert!(lines[0].starts_with("7  2027-") && lines[0].ends_with("  zoe (the unix socket, uid 0)"), "{narrow}");
        assert_eq!(lines[1..], ["    PUT /admin/settings/DOMAIN", "    done: for every machine"]);
    }
}
