//! A platform in a temporary folder: a leader, followers, their files. Ports
//! are the system's choice; waiting is on lines, reports and exits, never on
//! time. Everything is ended and removed when it is dropped.

mod engine;
mod proxy;

pub(crate) use engine::{Engine, Project};
pub(crate) use proxy::Proxy;

use base64::Engine as _;
use lockstep_edge::Client;
use lockstep_shared::Key;
use lockstep_shared::api::{Apply, Fleet, Status};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for a machine that does ten other things; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_lockstep");

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A platform: the leader's root, and a root for each follower.
pub(crate) struct Platform {
    pub(crate) home: TempDir,
    keys: BTreeMap<String, (String, String)>,
    leader: Option<Process>,
    environment: Vec<(String, String)>,
}

impl Platform {
    /// With these followers, as (name, role); nothing runs yet.
    pub(crate) fn new(followers: &[(&str, &str)]) -> Self {
        let home = tempfile::Builder::new().prefix("ls-").tempdir().unwrap();
        let mut platform = Self { home, keys: BTreeMap::new(), leader: None, environment: Vec::new() };
        for (name, role) in followers {
            let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(lockstep_edge::random::bytes::<32>());
            platform.keys.insert((*name).to_owned(), ((*role).to_owned(), key));
        }
        write(&platform.leader_root().join("platform.yml"), "settings: {}\n");
        write(&platform.leader_root().join("templates/settings.yml"), "release: 1.0.0\n");
        platform.write_leader_config(&json!({}));
        platform
    }

    pub(crate) fn leader_root(&self) -> PathBuf {
        self.home.path().join("leader")
    }

    pub(crate) fn follower_root(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What a follower writes into.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.follower_root(name).join("pryv")
    }

    pub(crate) fn template(&self, path: &str, text: impl AsRef<[u8]>) {
        write(&self.leader_root().join("templates").join(path), text);
    }

    pub(crate) fn platform_yml(&self, text: &str) {
        write(&self.leader_root().join("platform.yml"), text);
    }

    /// Settings without a schema of their own, each with a default.
    pub(crate) fn settings(&self, defaults: &[(&str, &str)]) {
        let mut text = "release: 1.0.0\ngroups:\n  G:\n    settings:\n".to_owned();
        for (name, default) in defaults {
            text += &format!("      {name}: {{title: {name}, default: {default}, overridable: true}}\n");
        }
        self.template("settings.yml", text);
    }

    /// For the leader's process and for commands, from now on.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        Key::parse(&self.keys[name].1).unwrap()
    }

    pub(crate) fn key_text(&self, name: &str) -> &str {
        &self.keys[name].1
    }

    /// The leader's configuration; `urls` are the followers that it can reach.
    pub(crate) fn write_leader_config(&self, urls: &Value) {
        let mut followers = serde_json::Map::new();
        for (name, (role, key)) in &self.keys {
            let mut follower = json!({"role": role, "key": key});
            if let Some(url) = urls.get(name) {
                follower["url"] = url.clone();
            }
            followers.insert(name.clone(), follower);
        }
        let config = json!({"http": {"port": 0}, "followers": followers});
        Self::secret_file(&self.leader_root().join("config-leader/conf/config-leader.json"), &config);
    }

    fn secret_file(path: &Path, value: &Value) {
        write(path, value.to_string());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn start_leader(&mut self) -> String {
        let mut command = Command::new(BINARY);
        command.arg("leader").arg("--root").arg(self.leader_root());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.lead(Process::start(command))
    }

    /// Goes on with this process as its leader, once that is ready.
    pub(crate) fn lead(&mut self, leader: Process) -> String {
        let url = leader.ready();
        self.leader = Some(leader);
        url
    }

    pub(crate) fn leader(&self) -> &Process {
        self.leader.as_ref().expect("a leader runs")
    }

    /// The leader's process, to end it in another way.
    pub(crate) fn take_leader(&mut self) -> Process {
        self.leader.take().expect("a leader runs")
    }

    pub(crate) fn leader_url(&self) -> String {
        self.leader().ready()
    }

    /// Ends the leader at once, as a power cut would.
    pub(crate) fn kill_leader(&mut self) {
        drop(self.leader.take());
    }

    /// Asks the leader to stop and waits until it has.
    pub(crate) fn stop_leader(&mut self) {
        let (code, log) = self.leader.take().expect("a leader runs").stop();
        assert_eq!(code, Some(0), "{log}");
    }

    /// A follower's configuration; `docker` is its section, or null.
    pub(crate) fn write_follower_config(&self, name: &str, leader_url: &str, docker: &Value) {
        let config = json!({
            "http": {"port": 0},
            "leader": {"url": leader_url, "name": name, "key": self.keys[name].1},
            "docker": docker,
        });
        Self::secret_file(&self.follower_root(name).join("config-follower/conf/config-follower.json"), &config);
    }

    pub(crate) fn start_follower(&self, name: &str) -> Process {
        let mut command = Command::new(BINARY);
        command.arg("follower").arg("--root").arg(self.follower_root(name));
        Process::start(command)
    }

    /// A follower with these variables in its environment.
    pub(crate) fn start_follower_with(&self, name: &str, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(BINARY);
        command.arg("follower").arg("--root").arg(self.follower_root(name)).envs(environment.iter().copied());
        Process::start(command)
    }

    /// The same, by way of another program.
    pub(crate) fn start_follower_in(&self, name: &str, prefix: &[&str]) -> Process {
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg(BINARY).arg("follower").arg("--root").arg(self.follower_root(name));
        Process::start(command)
    }

    /// A follower of the running leader, without an engine.
    pub(crate) fn follower(&self, name: &str) -> Process {
        self.write_follower_config(name, &self.leader_url(), &Value::Null);
        self.start_follower(name)
    }

    /// A follower of the running leader whose containers are the project's.
    pub(crate) fn docker_follower(&self, name: &str, project: &Project) -> Process {
        self.write_follower_config(name, &self.leader_url(), &json!({"project": project.name}));
        self.start_follower(name)
    }

    /// Runs a command of the binary against the leader's root.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let root = self.leader_root();
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--root").arg(root).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().unwrap()
    }

    /// The same, where it has to succeed.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.logs()
        );
        text(&output.stdout)
    }

    /// Publishes and waits until every follower has proven it.
    pub(crate) fn publish(&self) -> String {
        self.good(&["publish", "--yes", "--wait", "--timeout", "60"])
    }

    /// The error of a command that has to fail with exit code 1, with the home folder's name taken out.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stdout));
        self.anonymous(&text(&output.stderr))
    }

    pub(crate) fn anonymous(&self, text: &str) -> String {
        text.replace(self.home.path().to_str().unwrap(), "HOME")
    }

    pub(crate) fn fleet(&self) -> Fleet {
        serde_json::from_str(&self.good(&["status", "--json"])).unwrap()
    }

    /// What the first machine last reported.
    pub(crate) fn status(&self) -> Status {
        self.fleet().machines[0].status.clone().unwrap()
    }

    /// Its last apply that changed something.
    pub(crate) fn change(&self) -> Apply {
        self.status().last_change.unwrap()
    }

    /// Waits until the fleet is as it should be: on the leader's own news.
    pub(crate) fn until(&self, what: &str, good: impl Fn(&Fleet) -> bool) -> Fleet {
        let start = Instant::now();
        loop {
            let fleet = self.fleet();
            if good(&fleet) {
                return fleet;
            }
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{fleet:#?}\n{}", self.logs());
            // Each turn is a process of its own, which is pause enough.
        }
    }

    fn logs(&self) -> String {
        self.leader.as_ref().map(Process::log).unwrap_or_default()
    }

    /// A signing client of this follower's, for the leader.
    pub(crate) fn client(&self, name: &str) -> Client {
        Client::new(&self.leader_url(), name, self.key(name), 64 << 20).unwrap()
    }
}

/// Waits until something is so; `log` is shown where it never is.
pub(crate) fn until(what: &str, so: impl Fn() -> bool, log: impl Fn() -> String) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", log());
        // Only so that it leaves the machine to those who are waited for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What an apply did to containers, in its order: `restart web`.
pub(crate) fn actions(apply: &Apply) -> Vec<String> {
    apply.actions.iter().map(|action| format!("{} {}", action.verb, action.service)).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running leader or follower; killed when dropped.
pub(crate) struct Process {
    child: Child,
    ready: std::sync::OnceLock<String>,
    lines: std::sync::Mutex<mpsc::Receiver<String>>,
    log: std::sync::Arc<std::sync::Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (sink, stderr) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            ready: std::sync::OnceLock::new(),
            lines: std::sync::Mutex::new(lines),
            log,
            reader: Some(reader),
        }
    }

    /// The address of its `ready` line.
    pub(crate) fn ready(&self) -> String {
        self.ready
            .get_or_init(|| {
                let line = self.lines.lock().unwrap().recv_timeout(PATIENCE);
                let line = line.unwrap_or_else(|_| panic!("it never got ready:\n{}", self.log()));
                line.strip_prefix("ready ").expect("the ready line").to_owned()
            })
            .clone()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for it to end by itself: its exit code and its log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.reader.take().unwrap().join().unwrap();
                let log = self.log();
                return (status.code(), log);
            }
            assert!(start.elapsed() < PATIENCE, "it never ended:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        self.ended()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All files below a folder with their bytes, links with their targets.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder_now) = open.pop() {
        for entry in fs::read_dir(&folder_now).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink() {
                files.insert(name, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
            } else if kind.is_file() {
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}
