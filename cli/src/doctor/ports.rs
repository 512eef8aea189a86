//! Who listens where: this service, another program, or nobody.

use super::{Finding, Level, fine, found};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// A process: its name and number, where this user may know them.
    Somebody(Option<(String, u32)>),
}

/// A listener of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// For people: `followers`, `people with API tokens`, ...
    pub(super) whose: &'static str,
    /// Its key in the configuration file.
    pub(super) key: &'static str,
    pub(super) address: SocketAddr,
    pub(super) holder: Holder,
    /// Whether this service runs.
    pub(super) runs: bool,
    /// Whether others than this machine have to reach it.
    pub(super) for_others: bool,
}

impl Facts {
    /// The process that listens.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.holder {
            Holder::Somebody(Some((name, pid))) if name == "lockstep" => Some(*pid),
            _ => None,
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    // A port of the system's choice is known to the running service alone.
    if facts.address.port() == 0 {
        return Vec::new();
    }
    let (address, whose, key) = (facts.address, facts.whose, facts.key);
    let mut findings = Vec::new();
    match (&facts.holder, facts.runs) {
        (Holder::Somebody(Some((name, pid))), runs) if name != "lockstep" || !runs => findings.push(found(
            "ports",
            Level::Broken,
            format!("{address}, for {whose}, is held by {name} (process {pid})"),
            "the service can't listen there, and doesn't start",
            format!(
                "stop that program (ss -ltnp 'sport = :{}'), or set {key}.port in the configuration",
                address.port()
            ),
        )),
        (Holder::Somebody(None), false) => findings.push(found(
            "ports",
            Level::Broken,
            format!("{address}, for {whose}, is held by another program"),
            "the service can't listen there, and doesn't start",
            format!(
                "sudo ss -ltnp 'sport = :{}' says by which; or set {key}.port in the configuration",
                address.port()
            ),
        )),
        (Holder::Somebody(_), _) => findings.push(fine("ports", format!("{address} is listened on, for {whose}"))),
        (Holder::Nobody, true) => findings.push(found(
            "ports",
            Level::Broken,
            format!("nobody listens on {address}, for {whose}, though the service runs"),
            "it was started with another configuration than the one in the file",
            "restart it: systemctl restart, or scripts/restart-config-leader and -follower",
        )),
        (Holder::Nobody, false) => findings.push(fine("ports", format!("{address}, for {whose}, is free"))),
    }
    if facts.for_others && address.ip().is_loopback() {
        findings.push(found(
            "ports",
            Level::Note,
            format!("{address}, for {whose}, is reached from this machine only"),
            "machines elsewhere don't get here, unless a proxy in front passes them on",
            format!("set {key}.ip to an address of this machine (ip -brief address), and restart"),
        ));
    }
    findings
}

/// Whether an address that followers are told leads here, as far as this machine can see.
pub(super) fn reached(address: &str) -> Finding {
    let place = lockstep_edge::client::address(address);
    let tried = place.ok_or_else(|| "it is no address".to_owned()).and_then(|place| {
        let mut all = (place.host.as_str(), place.port).to_socket_addrs().map_err(|error| error.to_string())?;
        let first = all.next().ok_or_else(|| "it has no address".to_owned())?;
        TcpStream::connect_timeout(&first, PATIENCE).map(drop).map_err(|error| error.to_string())
    });
    match tried {
        Ok(()) => fine("ports", format!("{address}, which followers are told, answers from here")),
        Err(why) => found(
            "ports",
            Level::Warning,
            format!("{address}, which followers are told, doesn't answer from here: {why}"),
            "machines that go by it don't reach this leader; a router that lets nobody in from inside may be the reason",
            format!(
                "correct addresses in config-leader.json, or the firewall; from another machine: curl -k {address}/healthz"
            ),
        ),
    }
}

/// Who listens on an address, from the kernel's tables.
pub(super) fn holder(address: SocketAddr) -> Holder {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| listening(table)).find(|(at, _)| {
        at.port() == address.port()
            && (at.ip() == address.ip() || at.ip().is_unspecified() || address.ip().is_unspecified())
    });
    match inode {
        None => Holder::Nobody,
        Some((_, inode)) => Holder::Somebody(process(&format!("socket:[{inode}]"))),
    }
}

/// The listening sockets of a table as proc(5) describes it, with their inodes.
fn listening(table: &str) -> Vec<(SocketAddr, u64)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A: listening.
        if *fields.get(3)? != "0A" {
            return None;
        }
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let words = |from: usize| u32::from_str_radix(ip.get(from..from + 8)?, 16).ok();
        // Each word is in the order of the machine's bytes.
        let ip = match ip.len() {
            8 => IpAddr::V4(Ipv4Addr::from(words(0)?.to_ne_bytes())),
            32 => {
                let mut bytes = [0; 16];
                for word in 0..4 {
                    bytes[word * 4..word * 4 + 4].copy_from_slice(&words(word * 8)?.to_ne_bytes());
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
            _ => return None,
        };
        Some((SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), fields.get(9)?.parse().ok()?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The process that has this socket open.
fn process(socket: &str) -> Option<(String, u32)> {
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let opened = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut links = opened.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if links.any(|link| link == Path::new(socket)) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((name.trim().to_owned(), pid));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(holder: Holder, runs: bool) -> Facts {
        let address = "127.0.0.1:7000".parse().unwrap();
        Facts { whose: "followers", key: "http", address, holder, runs, for_others: false }
    }

    #[test]
    fn a_port_is_ours_free_or_somebody_elses() {
        let level = |holder, runs| judge(&facts(holder, runs))[0].level;
        let by = |name: &str| Holder::Somebody(Some((name.to_owned(), 7)));
        assert_eq!(level(by("lockstep"), true), Level::Fine);
        assert_eq!(level(Holder::Nobody, false), Level::Fine);
        assert_eq!(level(Holder::Nobody, true), Level::Broken);
        assert_eq!(level(by("nginx"), true), Level::Broken);
        assert_eq!(level(by("lockstep"), false), Level::Broken, "of another home");
        assert_eq!(level(Holder::Somebody(None), false), Level::Broken);
        assert!(judge(&facts(by("nginx"), false))[0].what.contains("nginx (process 7)"));
        let mut others = facts(Holder::Nobody, false);
        others.for_others = true;
        assert_eq!(judge(&others)[1].level, Level::Note);
        others.address = "127.0.0.1:0".parse().unwrap();
        assert_eq!(judge(&others), []);
    }

    #[test]
    fn the_kernel_says_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let Holder::Somebody(Some((_, pid))) = holder(address) else { panic!("{:?}", holder(address)) };
        assert_eq!(pid, std::process::id());
        let six = std::net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        drop(listener);
        assert_eq!(holder(address), Holder::Nobody);
        assert_eq!(holder(six), Holder::Nobody, "it was dropped");
    }
}
