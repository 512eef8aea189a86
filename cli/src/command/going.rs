//! What can be typed of how a publication goes out.

use crate::exit::{Failed, failed};
use lockstep_leader::rollout::strategy::{BadStrategy, OnFailure, Share, Wish};
use lockstep_shared::Name;

/// How it goes out, where that is to be otherwise than config-leader.json says.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Going {
    /// One machine first: this one, or one of the leader's choice
    #[arg(long, value_name = "MACHINE", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    canary: Option<Vec<String>>,
    /// How many machines have it by the end of each wave, e.g. 1,25%,100%
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = share)]
    waves: Option<Vec<Share>>,
    /// How many machines of a role may restart containers at a time: a number or a percentage
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_unavailable: Option<Share>,
    /// How long to pause between waves, e.g. 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pause: Option<u64>,
    /// What the first failure does: stop, return (those that have it go back), continue
    #[arg(long, value_name = "WHAT", value_parser = on_failure)]
    on_failure: Option<OnFailure>,
    /// Everybody now: no waves, no order among restarts
    #[arg(long, conflicts_with_all = ["canary", "waves", "max_unavailable", "pause"])]
    all_at_once: bool,
}

impl Going {
    /// The same as the leader hears it.
    pub(crate) fn wish(&self) -> Result<Wish, Failed> {
        let canary = self.canary.as_ref().map(|names| {
            let names = names.iter().filter(|name| !name.is_empty());
            names.map(|name| Name::new(name.as_str())).collect::<Result<Vec<_>, _>>()
        });
        Ok(Wish {
            canary: canary.transpose().map_err(|error| failed(format!("--canary: {error}")))?,
            waves: self.waves.clone(),
            max_unavailable: self.max_unavailable,
            pause_seconds: self.pause,
            on_failure: self.on_failure,
            all_at_once: self.all_at_once,
        })
    }
}

fn share(text: &str) -> Result<Share, BadStrategy> {
    text.parse()
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "stop" => Ok(OnFailure::Stop),
        "return" => Ok(OnFailure::Return),
        "continue" => Ok(OnFailure::Continue),
        _ => Err("write stop, return or continue".to_owned()),
    }
}

/// A span of time, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no span of time: write 30s, 5m or 1h");
    let (number, unit) = match text.trim().strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text.trim()[number.len()..]),
        None => (text.trim(), "s"),
    };
    let number: u64 = number.trim().parse().map_err(|_| bad())?;
    let times = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    number
        .checked_mul(times)
        .filter(|seconds| *seconds <= 7 * 86_400)
        .ok_or_else(|| format!("{text:?} is more than a week"))
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn spans_of_time() {
        assert_eq!([seconds("30"), seconds("30s"), seconds("5m"), seconds("1h")], [Ok(30), Ok(30), Ok(300), Ok(3600)]);
        assert!(
            seconds("5 min").is_err() && seconds("").is_err() && seconds("-1s").is_err() && seconds("900h").is_err()
        );
    }
}
