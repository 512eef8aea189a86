//! A rollout as it happens: a line for each machine and a bar where somebody
//! looks on, one line for each change where it goes to a file.

use super::show::Paint;
use super::{print, say};
use crate::exit::Failed;
use crate::printable::{headline, paragraph};
use crate::socket::{Heard, Socket};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockstep_shared::Name;
use lockstep_shared::rollout::{Member, MemberState, Phase, Rollout};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a leader may be away before watching it is given up.
const AWAY: Duration = Duration::from_mins(2);

/// How watching ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The rollout came to its end, and is as it says.
    Over(Box<Rollout>),
    /// Another one took its place.
    Replaced(Box<Rollout>),
    /// The time is over.
    Late,
    /// Somebody pressed Ctrl-C.
    Left,
}

/// Follows the rollout of a revision to its end; nothing is printed if `silent`.
pub(super) async fn follow(
    socket: &Socket,
    revision: Option<u64>,
    deadline: Option<Instant>,
    silent: bool,
) -> Result<Ended, Failed> {
    let mut shown = Shown::new(silent);
    let ended = tokio::select! {
        ended = watch(socket, revision, deadline, &mut shown) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Ended::Left),
    };
    shown.end();
    ended
}

async fn watch(
    socket: &Socket,
    revision: Option<u64>,
    deadline: Option<Instant>,
    shown: &mut Shown,
) -> Result<Ended, Failed> {
    let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_hours(24 * 365));
    let mut rollout: Option<Rollout> = None;
    let mut last: Option<String> = None;
    let mut away: Option<Instant> = None;
    loop {
        let ended = async {
            let mut events = socket.events("/admin/rollout/events", last.as_deref()).await?;
            while let Some(Heard { id, event, data }) = events.next().await? {
                away = None;
                if id.is_some() {
                    last = id;
                }
                take(&mut rollout, &event, &data)?;
                let Some(now) = &rollout else { continue };
                if revision.is_some_and(|revision| now.revision > revision) {
                    return Ok(Some(Ended::Replaced(Box::new(now.clone()))));
                }
                if revision.is_none_or(|revision| now.revision == revision) {
                    shown.show(now);
                    if is_settled(now) {
                        return Ok(Some(Ended::Over(Box::new(now.clone()))));
                    }
                }
            }
            Ok::<_, Failed>(None)
        };
        match timeout_at(deadline, ended).await {
            Err(_) => return Ok(Ended::Late),
            Ok(Ok(Some(ended))) => return Ok(ended),
            Ok(result) => {
                // The leader stops, or is started anew: it knows where it was.
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(result.err().unwrap_or_else(|| {
                        crate::exit::failed("the leader is gone: see its log (lockstep logs leader)")
                    }));
                }
                if timeout_at(deadline, sleep(Duration::from_millis(200))).await.is_err() {
                    return Ok(Ended::Late);
                }
            }
        }
    }
}

fn take(rollout: &mut Option<Rollout>, event: &str, data: &str) -> Result<(), Failed> {
    match (event, rollout) {
        ("snapshot", rollout) => *rollout = Some(serde_json::from_str(data)?),
        ("rollout", Some(rollout)) => {
            let head: Rollout = serde_json::from_str(data)?;
            *rollout = Rollout { machines: std::mem::take(&mut rollout.machines), ..head };
        }
        ("machine", Some(rollout)) => {
            let member: Member = serde_json::from_str(data)?;
            match rollout.machines.iter_mut().find(|other| other.name == member.name) {
                Some(known) => *known = member,
                None => rollout.machines.push(member),
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether nothing more happens by itself: also those that go back are back.
fn is_settled(rollout: &Rollout) -> bool {
    let moves = |member: &Member| {
        matches!(
            member.state,
            MemberState::Returning | MemberState::Queued | MemberState::Restarting | MemberState::Applying
        )
    };
    rollout.phase.is_over() && !(rollout.phase != Phase::Done && rollout.machines.iter().any(moves))
}

/// What stands in the terminal.
struct Shown {
    paint: Paint,
    way: Way,
    states: BTreeMap<Name, (MemberState, String)>,
    head: Option<(Phase, usize)>,
}

enum Way {
    Silent,
    Lines,
    Bars { all: MultiProgress, total: ProgressBar, machines: BTreeMap<Name, ProgressBar> },
}

impl Shown {
    fn new(silent: bool) -> Self {
        let way = if silent {
            Way::Silent
        } else if std::io::stdout().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let total = all.add(ProgressBar::new(1));
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len}  {wide_msg}");
            total.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            Way::Bars { all, total, machines: BTreeMap::new() }
        } else {
            Way::Lines
        };
        Self { paint: Paint::new(), way, states: BTreeMap::new(), head: None }
    }

    fn show(&mut self, rollout: &Rollout) {
        let head = (rollout.phase, rollout.wave);
        let words = head_words(rollout);
        if self.head != Some(head) {
            if matches!(self.way, Way::Lines) && (rollout.waves > 1 || rollout.phase != Phase::Running) {
                let _ = print(&format!("revision {}: {words}\n", rollout.revision));
            }
            self.head = Some(head);
        }
        for member in &rollout.machines {
            let now = (member.state, member.why.clone());
            if self.states.get(&member.name) == Some(&now) {
                continue;
            }
            let first = !self.states.contains_key(&member.name);
            self.states.insert(member.name.clone(), now);
            self.machine(member, first);
        }
        if let Way::Bars { total, .. } = &self.way {
            let done = rollout.machines.iter().filter(|member| member.state == MemberState::Done).count();
            total.set_length(rollout.machines.len() as u64);
            total.set_position(done as u64);
            total.set_prefix(format!("revision {}", rollout.revision));
            total.set_message(words);
        }
    }

    /// One machine: its line while something happens to it; what it came to stays.
    fn machine(&mut self, member: &Member, first: bool) {
        let line = line(member, self.paint);
        match &mut self.way {
            Way::Silent => {}
            Way::Lines => {
                // Who only waits is told of by the waves.
                if !matches!(member.state, MemberState::Waiting | MemberState::Offered)
                    || (!first && member.state != MemberState::Offered)
                {
                    let _ = print(&format!("{line}\n"));
                }
            }
            Way::Bars { all, total, machines } => match member.state {
                MemberState::Waiting => {}
                MemberState::Done | MemberState::Failed | MemberState::Returned | MemberState::Held => {
                    if let Some(bar) = machines.remove(&member.name) {
                        bar.finish_and_clear();
                        all.remove(&bar);
                    }
                    let _ = all.println(line);
                }
                _ => {
                    let bar = machines.entry(member.name.clone()).or_insert_with(|| {
                        let bar = all.insert_before(total, ProgressBar::new_spinner());
                        let style = ProgressStyle::with_template("{wide_msg} {elapsed:>4}");
                        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                        bar.enable_steady_tick(Duration::from_secs(1));
                        bar
                    });
                    bar.set_message(line.lines().next().unwrap_or_default().to_owned());
                }
            },
        }
    }

    fn end(&self) {
        if let Way::Bars { total, machines, .. } = &self.way {
            machines.values().for_each(ProgressBar::abandon);
            total.abandon();
        }
    }
}

fn head_words(rollout: &Rollout) -> String {
    let wave = if rollout.waves > 1 { format!("wave {} of {}", rollout.wave, rollout.waves) } else { String::new() };
    match rollout.phase {
        Phase::Running => wave,
        Phase::Pausing => match rollout.pauses_until {
            Some(until) => format!(
                "{wave} is through; the next in {} s (lockstep rollout resume doesn't wait)",
                (until - lockstep_edge::clock::now()).max(0)
            ),
            None => wave,
        },
        Phase::Done => "done".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
        Phase::Returned => "taken back".to_owned(),
        Phase::Replaced => "replaced".to_owned(),
    }
}

/// A state in a word, with its colour.
pub(super) fn state(state: MemberState) -> (&'static str, &'static str) {
    match state {
        MemberState::Waiting => ("waits for its wave", "90"),
        MemberState::Offered => ("offered", "36"),
        MemberState::Absent => ("not heard from", "33"),
        MemberState::Applying => ("applying", "36"),
        MemberState::Queued => ("waits to restart", "33"),
        MemberState::Restarting => ("restarting", "36"),
        MemberState::Done => ("done", "32"),
        MemberState::Failed => ("FAILED", "31"),
        MemberState::Held => ("not begun", "90"),
        MemberState::Returning => ("going back", "33"),
        MemberState::Returned => ("back", "33"),
    }
}

fn line(member: &Member, paint: Paint) -> String {
    let (word, colour) = state(member.state);
    let why = paragraph(&member.why);
    let why = if why.is_empty() { why } else { format!("  {why}") };
    // Padded before it is coloured: colours have no width.
    format!("  {:<20} {}{why}", member.name.as_str(), paint.wrap(colour, &format!("{word:<18}"))).trim_end().to_owned()
}

/// Says how it ended, and what can be done now; whether all is well.
pub(super) fn conclude(rollout: &Rollout, paint: Paint) -> Result<bool, Failed> {
    let names = |wanted: MemberState| {
        let names: Vec<&str> = rollout
            .machines
            .iter()
            .filter(|member| member.state == wanted)
            .map(|member| member.name.as_str())
            .collect();
        names.join(", ")
    };
    let revision = rollout.revision;
    match rollout.phase {
        Phase::Done => {
            let (away, failed) = (names(MemberState::Absent), names(MemberState::Failed));
            if !away.is_empty() {
                say(&format!("not heard from lately: {away}; each gets revision {revision} when it is back"));
            }
            if !failed.is_empty() {
                say(&format!("failed and passed over: {failed} (lockstep status says why)"));
            }
            Ok(failed.is_empty())
        }
        Phase::Stopped | Phase::Returned => {
            let (word, next) = match (rollout.phase, rollout.returned_to) {
                (Phase::Stopped, _) => (
                    "stopped".to_owned(),
                    "lockstep rollout resume goes on, lockstep rollout abort takes it back from those that have it",
                ),
                (_, Some(to)) => (
                    format!("returned to revision {to}"),
                    "lockstep publish brings a correction, lockstep rollout resume tries this one again",
                ),
                (_, None) => ("taken back".to_owned(), "lockstep publish brings a correction"),
            };
            print(&format!("{} {}\n", paint.wrap("31", &format!("{word}:")), headline(&rollout.why)))?;
            say(next);
            Ok(false)
        }
        Phase::Running | Phase::Pausing | Phase::Replaced => Ok(false),
    }
}
