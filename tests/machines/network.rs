//! Machines with addresses of their own, on a network of their own: each is a
//! network namespace, with a home and a name. Nothing of it touches the
//! networks of the machine that tests; all is gone when it is dropped.

use crate::harness::{BINARY, Process, text};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The shared library that shifts a process' clock (Debian: faketime).
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A switch, and what is plugged into it.
pub(super) struct Network {
    switch: String,
    folder: TempDir,
    names: std::cell::RefCell<Vec<String>>,
}

/// One machine.
pub(super) struct Machine {
    /// Its namespace.
    net: String,
    /// What it calls itself.
    pub(super) name: String,
    /// Its home.
    pub(super) root: PathBuf,
    /// Seconds that its clock is ahead.
    pub(super) ahead: Cell<i64>,
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words:?}: {}", text(&output.stderr));
}

impl Network {
    pub(super) fn new() -> Self {
        let unique = u32::from_le_bytes(lockstep_edge::random::bytes());
        let switch = format!("lsnet-{unique:08x}");
        let folder = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        let network = Self { switch: switch.clone(), folder, names: vec![switch].into() };
        let switch = &network.switch;
        ip(&["netns", "add", switch]);
        ip(&["-n", switch, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", switch, "link", "set", "switch", "up"]);
        network
    }

    /// A machine at `198.18.0.HOST`; RFC 2544 keeps these for tests.
    pub(super) fn machine(&self, name: &str, host: u8) -> Machine {
        let net = format!("{}-{host}", self.switch);
        ip(&["netns", "add", &net]);
        self.names.borrow_mut().push(net.clone());
        let plug = format!("plug{host}");
        ip(&["link", "add", "eth0", "netns", &net, "type", "veth", "peer", "name", &plug, "netns", &self.switch]);
        ip(&["-n", &self.switch, "link", "set", &plug, "master", "switch", "up"]);
        ip(&["-n", &net, "link", "set", "lo", "up"]);
        ip(&["-n", &net, "link", "set", "eth0", "up"]);
        let root = self.folder.path().join(name);
        let machine = Machine { net, name: name.to_owned(), root, ahead: Cell::new(0) };
        machine.take(host);
        machine
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names.borrow().iter().rev() {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

impl Machine {
    /// Gets this address too.
    pub(super) fn take(&self, host: u8) {
        ip(&["-n", &self.net, "addr", "add", &format!("198.18.0.{host}/24"), "dev", "eth0"]);
    }

    /// Loses it.
    pub(super) fn lose(&self, host: u8) {
        ip(&["-n", &self.net, "addr", "del", &format!("198.18.0.{host}/24"), "dev", "eth0"]);
    }

    /// Forgets which machine has which address.
    pub(super) fn forget_neighbours(&self) {
        ip(&["-n", &self.net, "neigh", "flush", "all"]);
    }

    /// A command of this machine: its network, its name, its home, its clock.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        let hostname = "hostname \"$0\" && exec \"$@\"";
        command.args(["netns", "exec", &self.net, "unshare", "--uts", "sh", "-c", hostname, &self.name]).args(words);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", Path::new(BINARY).parent().unwrap().display()));
        command.env("LOCKSTEP_ROOT", &self.root).stdin(Stdio::null());
        if self.ahead.get() != 0 {
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", format!("{:+}", self.ahead.get()));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    /// A line as somebody types it there.
    pub(super) fn typed(&self, line: &str) -> Output {
        self.command(&["sh", "-c", line]).output().unwrap()
    }

    /// The same, where it has to succeed.
    pub(super) fn good(&self, line: &str) -> String {
        let output = self.typed(line);
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// The same, where it has to fail.
    pub(super) fn refused(&self, line: &str) -> String {
        let output = self.typed(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stderr)
    }

    /// Its leader or follower, which runs from now on.
    pub(super) fn start(&self, side: &str) -> Process {
        let process = Process::start(self.command(&["lockstep", side]));
        process.ready();
        process
    }
}
