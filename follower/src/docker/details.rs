//! What an inspection says of a container.

use bollard::models::ContainerInspectResponse;
use std::net::IpAddr;
use std::time::Duration;

/// What an inspection says of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The engine's identifier.
    pub id: String,
    /// The first process, as the host counts it; 0 while there is none.
    pub pid: i32,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is about to be started again after it died.
    pub restarting: bool,
    /// How often the engine has started it again by itself.
    pub restarts: i64,
    /// When it was last started, in the engine's words.
    pub started_at: String,
    /// The same, Unix seconds; 0 where that can't be read.
    pub started: i64,
    /// How its last run ended.
    pub exit_code: i64,
    /// Whether the engine starts it again when it ends.
    pub restarted_by_policy: bool,
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    /// When the last healthcheck that passed began, Unix seconds; 0 if none is known.
    pub last_passed: i64,
    /// How long the healthcheck may take to decide; `None` without one.
    pub health_deadline: Option<Duration>,
    /// TCP ports it says it serves.
    pub ports: Vec<u16>,
    /// Where it can be reached from the host.
    pub addresses: Vec<IpAddr>,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
    /// Its image's identifier.
    pub image: String,
    /// The user it runs as; empty: root.
    pub user: String,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// Where its first process starts.
    pub folder: String,
}

impl From<ContainerInspectResponse> for Details {
    fn from(found: ContainerInspectResponse) -> Self {
        let state = found.state.unwrap_or_default();
        let config = found.config.unwrap_or_default();
        let host = found.host_config.unwrap_or_default();
        let network = found.network_settings.unwrap_or_default();
        let policy =
            host.restart_policy.and_then(|policy| policy.name).map(|name| name.to_string()).unwrap_or_default();
        let ports =
            config.exposed_ports.unwrap_or_default().into_iter().chain(network.ports.unwrap_or_default().into_keys());
        let mut ports: Vec<u16> = ports.filter_map(|port| port.strip_suffix("/tcp")?.parse().ok()).collect();
        ports.sort_unstable();
        ports.dedup();
        let endpoints = network.networks.unwrap_or_default();
        let mut addresses: Vec<IpAddr> =
            endpoints.into_values().filter_map(|endpoint| endpoint.ip_address?.parse().ok()).collect();
        if host.network_mode.as_deref() == Some("host") {
            addresses.push(std::net::Ipv4Addr::LOCALHOST.into());
        }
        addresses.sort_unstable();
        let health = state.health.unwrap_or_default();
        let passed = health.log.unwrap_or_default().into_iter().filter(|probe| probe.exit_code == Some(0));
        let last_passed = passed.filter_map(|probe| probe.start).map(|start| unix(&start)).max().unwrap_or(0);
        let started_at = state.started_at.unwrap_or_default();
        let tested = config.healthcheck.filter(|check| check.test.as_ref().is_some_and(|test| is_a_test(test)));
        Self {
            id: found.id.unwrap_or_default(),
            pid: state.pid.and_then(|pid| pid.try_into().ok()).unwrap_or_default(),
            running: state.running.unwrap_or_default(),
            restarting: state.restarting.unwrap_or_default(),
            restarts: found.restart_count.unwrap_or_default(),
            started: unix(&started_at),
            started_at,
            exit_code: state.exit_code.unwrap_or_default(),
            restarted_by_policy: matches!(policy.as_str(), "always" | "unless-stopped"),
            last_passed,
            health: health
                .status
                .map(|status| status.to_string())
                .filter(|status| !status.is_empty())
                .unwrap_or_else(|| "none".to_owned()),
            health_deadline: tested
                .map(|check| health_deadline(check.start_period, check.interval, check.timeout, check.retries)),
            ports,
            addresses,
            stop_timeout: Duration::from_secs(
                config.stop_timeout.and_then(|seconds| seconds.try_into().ok()).unwrap_or(10),
            ),
            image: found.image.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            folder: config.working_dir.unwrap_or_default(),
        }
    }
}

/// A time in the engine's words (RFC 3339) as Unix seconds; 0 where it is none.
fn unix(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
}

fn is_a_test(test: &[String]) -> bool {
    test.first().is_some_and(|kind| kind != "NONE")
}

/// The time after which a healthcheck has decided: `start_period` and all
/// retries, with the engine's defaults for what isn't set (nanoseconds).
fn health_deadline(start: Option<i64>, interval: Option<i64>, timeout: Option<i64>, retries: Option<i64>) -> Duration {
    const MARGIN: Duration = Duration::from_secs(10);
    const DEFAULT: Duration = Duration::from_secs(30);
    let time = |value: Option<i64>, default| {
        let set = value.filter(|nanos| *nanos > 0).and_then(|nanos| nanos.try_into().ok());
        set.map_or(default, Duration::from_nanos)
    };
    let retries = retries.filter(|retries| *retries > 0).and_then(|retries| retries.try_into().ok()).unwrap_or(3u32);
    time(start, Duration::ZERO) + (time(interval, DEFAULT) + time(timeout, DEFAULT)) * retries + MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_times_are_read_with_their_offset() {
        assert_eq!(unix("2026-11-21T14:25:59.059376220Z"), unix("2026-11-21T16:25:59.059376220+02:00"));
        assert_eq!((unix("1970-01-01T00:00:01Z"), unix("")), (1, 0));
    }

    #[test]
    fn a_healthcheck_gets_all_its_tries() {
        let second = |n: i64| Some(n * 1_000_000_000);
        assert_eq!(health_deadline(second(5), second(1), second(2), Some(4)), Duration::from_secs(5 + 4 * 3 + 10));
        assert_eq!(health_deadline(None, None, Some(0), None), Duration::from_secs(3 * 60 + 10));
    }
}
