//! One machine with one container, to which faults happen.

use crate::harness::{Platform, Process, Project, text, tree, until};
use lockstep_shared::api::{Apply, State, Status, Undo};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Files of the bundle, all with the same word.
const FILES: u32 = 6;
const NAME: &str = "core-1";

/// Writes down which word it runs with; doesn't run with "bad".
const SERVICE: &str = "read word < /app/conf/f0.conf; case \"$word\" in bad*) echo no such word; exit 7;; esac; \
    echo $word > /runs/word; exec sleep infinity";

pub(super) struct Machine {
    platform: Platform,
    project: Project,
    container: String,
    follower: Option<Process>,
    mounts: Vec<Mount>,
    engine: Option<OwnEngine>,
    bad: bool,
}

impl Machine {
    /// A machine where revision 1 (`old`) runs; revision 2 (`new`, or what can't run) is published but not seen yet.
    pub(super) fn new(fault: &str, bad: bool) -> Self {
        let mut platform = Platform::new(&[(NAME, "core")]);
        platform.settings(&[("WORD", "old")]);
        platform.template("core/role.yml", "files:\n  'app/**': {check: ['true']}\n");
        for index in 0..FILES {
            platform.template(&format!("core/app/conf/f{index}.conf.hbs"), "{{WORD}}\n");
        }
        platform.start_leader();
        let root = platform.follower_root(NAME);
        fs::create_dir_all(&root).unwrap();
        let mounts = match fault {
            "power cut" | "full disk" => vec![Mount::image(&platform.home.path().join("disk"), &root)],
            // The journal's file is open for writing, so its disk can't be made read-only: only that of the files.
            "read-only" => vec![Mount::tmpfs(&platform.data(NAME))],
            _ => Vec::new(),
        };
        fs::create_dir_all(platform.home.path().join("runs")).unwrap();
        let engine = (fault == "engine gone").then(|| OwnEngine::start(&platform.home.path().join("engine")));
        let mut machine = Self {
            project: Project::new("fault"),
            platform,
            container: String::new(),
            follower: None,
            mounts,
            engine,
            bad,
        };
        machine.configure();
        machine.follower = Some(machine.platform.start_follower(NAME));
        machine.platform.publish();
        machine.run_container();
        machine.follower.take().unwrap().stop();
        let word = if bad { "bad" } else { "new" };
        machine.platform.platform_yml(&format!("settings: {{WORD: {word}}}\n"));
        machine.platform.good(&["publish", "--yes"]);
        machine
    }

    fn configure(&self) {
        let mut docker = json!({"project": self.project.name, "settleSeconds": 0.1});
        if let Some(engine) = &self.engine {
            docker["host"] = Value::String(engine.host());
        }
        self.platform.write_follower_config(NAME, &self.platform.leader_url(), &docker);
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("docker");
        if let Some(engine) = &self.engine {
            command.env("DOCKER_HOST", engine.host());
        }
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    fn run_container(&mut self) {
        self.container = self.project.container("app");
        let conf = format!("{}:/app/conf:ro", self.platform.data(NAME).join("app/conf").display());
        let runs = format!("{}:/runs", self.platform.home.path().join("runs").display());
        let project = format!("--label=com.docker.compose.project={}", self.project.name);
        self.docker(&[
            "run",
            "-d",
            "--network=none",
            "--stop-timeout=0",
            "--name",
            &self.container,
            &project,
            "--label=com.docker.compose.service=app",
            "--label=com.docker.compose.oneoff=False",
            "-v",
            &conf,
            "-v",
            &runs,
            "lockstep-test/busybox",
            "sh",
            "-c",
            SERVICE,
        ]);
    }

    /// Starts the follower, has it struck, and leaves the machine as it is then.
    pub(super) fn strike(&mut self, at: &str, fault: &str) {
        let (undo, step) = match at.strip_prefix("undo: ") {
            Some(step) => (true, step),
            None => (false, at),
        };
        let (step, nth) = step.split_once(' ').map_or((step, 1), |(step, nth)| (step, nth.parse::<u32>().unwrap()));
        let before = nth + if undo { first_pass(step) } else { 0 } - 1;
        let held = self.platform.home.path().join("held");
        let what = if fault == "kill -9" { "kill".to_owned() } else { format!("hold {}", held.display()) };
        let points = format!("{step}={before}*off->return({what})");
        let points =
            if before == 0 { format!("{step}=1*return({what})") } else { points.replace("return", "1*return") };
        if fault == "power cut" {
            // What the test itself has laid out was there long before.
            command("sync", &["-f", self.platform.follower_root(NAME).to_str().unwrap()]);
        }
        let follower = self.platform.start_follower_with(NAME, &[("FAILPOINTS", &points)]);
        if fault == "kill -9" {
            let (code, log) = follower.ended();
            assert_eq!(code, None, "{log}");
            // What the machine makes of it alone.
            self.platform.kill_leader();
            self.follower = Some(self.platform.start_follower(NAME));
            return;
        }
        until("the machine gets there", || held.exists(), || format!("{points} never struck:\n{}", follower.log()));
        assert!(local_status(&follower).is_some(), "whoever asks is answered meanwhile:\n{}", follower.log());
        match fault {
            "power cut" => {
                let after = self.mounts[0].cut_power();
                drop(follower);
                let _ = Command::new("docker").args(["kill", &self.container]).output();
                self.mounts.clear();
                self.mounts.push(after.mounted());
                self.platform.kill_leader();
                self.docker(&["start", &self.container]);
                self.follower = Some(self.platform.start_follower(NAME));
                return;
            }
            "full disk" => self.mounts[0].fill(),
            "read-only" => self.mounts[0].remount("ro"),
            "engine gone" => self.engine.as_mut().unwrap().stop(),
            "leader gone" => self.platform.kill_leader(),
            other => panic!("no such fault: {other}"),
        }
        fs::remove_file(held).unwrap();
        self.follower = Some(follower);
    }

    /// Starts the follower, which then finds what is published.
    pub(super) fn start(&mut self) {
        self.follower = Some(self.platform.start_follower(NAME));
    }

    /// Publishes, kills the follower up to three times at any moments, and sees what it comes to.
    pub(super) fn publish_and_kill(&mut self, word: &str, round: u32) {
        let word = format!("{word}{round}");
        let before = self.words();
        self.platform.platform_yml(&format!("settings: {{WORD: {word}}}\n"));
        self.platform.good(&["publish", "--yes"]);
        let mut random = u64::from_le_bytes(lockstep_edge::random::bytes());
        for _ in 0..=random % 3 {
            // Anything from before the leader is asked to after the checkpoint.
            std::thread::sleep(Duration::from_micros(random / 7 % 600_000));
            random = random.rotate_left(23);
            self.follower = None;
            self.start();
            self.follower.as_ref().unwrap().ready();
        }
        let follower = self.follower.as_ref().unwrap();
        let revision = u64::from(round) + 2;
        let bad = word.starts_with("bad");
        let over = |status: Status| {
            if bad {
                status.failed.is_some_and(|failed| (failed.revision, failed.undo) == (revision, Undo::Done))
            } else {
                is(&status, State::Applied, revision) && status.failed.is_none()
            }
        };
        until(
            "the machine gets there",
            || local_status(follower).is_some_and(over),
            || format!("round {round}: {:#?}\n{:?}\n{}", local_status(follower), self.words(), follower.log()),
        );
        assert_eq!(self.words(), if bad { before } else { vec![word] }, "round {round}");
        until(
            "the machine gets there",
            || vec![self.runs_with()] == self.words(),
            || format!("round {round}: it runs with {}", self.runs_with()),
        );
        // Now and then all is durable in its place before the next: the journal begins anew over what it had.
        if round.is_multiple_of(3) {
            let journal = self.platform.follower_root(NAME).join("state/journal");
            until(
                "its journal is blanked",
                || fs::read(&journal).is_ok_and(|bytes| bytes[..8] == [0; 8]),
                || format!("round {round}: {}", self.follower.as_ref().map(Process::log).unwrap_or_default()),
            );
        }
    }

    /// Takes the fault away.
    pub(super) fn mend(&mut self, fault: &str) {
        match fault {
            "full disk" => self.mounts[0].make_room(),
            "read-only" => self.mounts[0].remount("rw"),
            "engine gone" => {
                self.engine.as_mut().unwrap().again();
            }
            // Its address is new, so the follower has to be started anew as well.
            _ => {
                self.follower.take().unwrap().stop();
                self.platform.start_leader();
                self.configure();
                self.follower = Some(self.platform.start_follower(NAME));
            }
        }
    }

    /// Waits until the machine is as `outcome` says, and says so itself.
    pub(super) fn expect(&self, when: &str, outcome: &str) {
        let follower = self.follower.as_ref().unwrap();
        let new = if self.bad { "bad" } else { "new" };
        let (words, good): (&str, fn(&Status) -> bool) = match outcome {
            "old, APPLIED(1)" => ("old", |status| is(status, State::Applied, 1) && status.failed.is_none()),
            // What is not synced may be on the disk or not.
            "old, APPLIED(1) or new, APPLIED(2)" => ("", |status| {
                (is(status, State::Applied, 1) || is(status, State::Applied, 2)) && status.failed.is_none()
            }),
            "new, APPLIED(2)" => (new, |status| is(status, State::Applied, 2) && status.failed.is_none()),
            "old, refused" => ("old", |status| is(status, State::Failed, 1) && said(status, "nothing was changed")),
            "old, waits for the leader" => ("old", |status| {
                let asked =
                    |apply: &Apply| apply.error.as_ref().is_some_and(|error| error.contains("could not be asked"));
                is(status, State::Failed, 1) && status.last_change.as_ref().is_some_and(asked)
            }),
            "new, to be noted" => (new, |status| is(status, State::Failed, 2) && said(status, "No space left")),
            "new, owed" => (new, |status| is(status, State::Failed, 1) && said(status, "the files are written")),
            "old, FAILED(2) RUNNING(1)" => ("old", |status| {
                is(status, State::Failed, 1)
                    && status.failed.as_ref().is_some_and(|failed| (failed.revision, failed.undo) == (2, Undo::Done))
            }),
            "FAILED(2), undo waits" => ("", |status| {
                is(status, State::Failed, 1)
                    && said(status, "has to wait")
                    && status.failed.as_ref().is_some_and(|failed| {
                        failed.undo == Undo::Pending
                            && failed.advice.as_ref().is_some_and(|it| it.contains("has to wait"))
                    })
            }),
            other => panic!("no such outcome: {other}"),
        };
        let seen = || local_status(follower);
        until(
            "the machine gets there",
            || seen().is_some_and(|status| good(&status)),
            || format!("{when} never {outcome}:\n{:#?}\n{:?}\n{}", seen(), self.words(), follower.log()),
        );
        if words.is_empty() {
            assert!(outcome.contains("undo waits") || self.words().len() == 1, "{when}: {:?}", self.words());
            return;
        }
        assert_eq!(self.words(), [words], "{when}: {}", follower.log());
        // What is not acted on yet still runs with what it was started with.
        let runs = if outcome == "new, owed" { "old" } else { words };
        if self.engine.as_ref().is_none_or(OwnEngine::is_up) && outcome != "new, owed" {
            until(
                "the machine gets there",
                || self.runs_with() == runs,
                || format!("{when}: it runs with {}\n{}", self.runs_with(), follower.log()),
            );
            assert_eq!(self.docker(&["inspect", "-f", "{{.State.Running}}", &self.container]), "true");
        }
    }

    fn runs_with(&self) -> String {
        fs::read_to_string(self.platform.home.path().join("runs/word")).unwrap_or_default().trim().to_owned()
    }

    /// The words in the files: one, unless they are a mixture. Nothing else may lie around.
    fn words(&self) -> Vec<String> {
        let files = tree(&self.platform.data(NAME));
        // What was staged can't be removed again from a disk that can't be written.
        let locked = self.mounts.iter().any(|mount| mount.locked);
        let own = |path: &String| locked && path.ends_with(".lockstep-new");
        assert_eq!(files.keys().filter(|path| !own(path)).count(), FILES as usize, "{:?}", files.keys());
        let files = files.iter().filter(|(path, _)| !own(path));
        let mut words: Vec<String> = files.map(|(_, bytes)| text(bytes).trim().to_owned()).collect();
        words.sort();
        words.dedup();
        words
    }
}

/// How often a step begins before the undo's own begins.
fn first_pass(step: &str) -> u32 {
    match step {
        "stage" | "swap" => FILES,
        "commit" | "act" | "prove" => 1,
        _ => 0,
    }
}

fn is(status: &Status, state: State, running: u64) -> bool {
    status.state == state && status.running.as_ref().is_some_and(|bundle| bundle.revision == running)
}

fn said(status: &Status, what: &str) -> bool {
    status.apply.as_ref().and_then(|apply| apply.error.as_ref()).is_some_and(|error| error.contains(what))
}

/// The follower's own word, without any leader; `None` while it isn't up.
pub(crate) fn local_status(follower: &Process) -> Option<Status> {
    let address = follower.ready();
    let mut stream = TcpStream::connect(address.strip_prefix("http://")?).ok()?;
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: follower\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// A small disk of its own; unmounted when dropped.
struct Mount {
    at: PathBuf,
    image: Option<PathBuf>,
    /// Whether it can't be written.
    locked: bool,
}

impl Mount {
    fn tmpfs(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        command("mount", &["-t", "tmpfs", "tmpfs", at.to_str().unwrap()]);
        Self { at: at.to_owned(), image: None, locked: false }
    }

    /// An ext4 on a file. What its kernel has not written there yet is what a power cut loses.
    fn image(file: &Path, at: &Path) -> Self {
        fs::File::create(file).unwrap().set_len(24 << 20).unwrap();
        command("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
        Self { at: at.to_owned(), image: Some(file.to_owned()), locked: false }.mounted()
    }

    fn mounted(self) -> Self {
        let image = self.image.as_ref().unwrap().to_str().unwrap();
        command("mount", &["-o", "loop", image, self.at.to_str().unwrap()]);
        self
    }

    /// The same disk as it would be found after a power cut now; not mounted yet.
    fn cut_power(&self) -> Self {
        let image = self.image.as_ref().unwrap().with_extension("after");
        command("cp", &["--sparse=always", self.image.as_ref().unwrap().to_str().unwrap(), image.to_str().unwrap()]);
        Self { at: self.at.clone(), image: Some(image), locked: false }
    }

    fn fill(&mut self) {
        let folder = self.at.join("filler");
        fs::create_dir(&folder).unwrap();
        let mut filler = fs::File::create(folder.join("large")).unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
        // Until it is on the disk the kernel reckons with more blocks than it needs in the end.
        filler.sync_all().unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
        filler.sync_all().unwrap();
        for index in 0.. {
            let small = fs::File::create(folder.join(index.to_string()));
            if small.is_err() || small.is_ok_and(|mut small| small.write_all(&[7]).is_err()) {
                break;
            }
        }
    }

    fn make_room(&mut self) {
        fs::remove_dir_all(self.at.join("filler")).unwrap();
    }

    /// The mount, not its file system, which can't be asked to while replaced files are held open.
    fn remount(&mut self, how: &str) {
        self.locked = how == "ro";
        command("mount", &["-o", &format!("remount,bind,{how}"), self.at.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
    }
}

fn command(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?} (as root?): {}", text(&output.stderr));
}

/// An engine that nobody else uses, in a network of its own: it would take away the shared one's bridge.
struct OwnEngine {
    folder: PathBuf,
    process: Option<Child>,
}

impl OwnEngine {
    fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut engine = Self { folder: folder.to_owned(), process: None };
        engine.again();
        let image = folder.join("image.tar");
        command("docker", &["save", "-o", image.to_str().unwrap(), "lockstep-test/busybox"]);
        command("docker", &["-H", &engine.host(), "load", "-q", "-i", image.to_str().unwrap()]);
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    fn is_up(&self) -> bool {
        self.process.is_some()
    }

    fn again(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut dockerd = Command::new("unshare");
        dockerd.args(["--net", "dockerd", "--bridge=none", "--iptables=false", "--ip-masq=false"]);
        dockerd.arg("--data-root").arg(self.folder.join("data")).arg("--exec-root").arg(self.folder.join("exec"));
        dockerd.arg("-p").arg(self.folder.join("pid")).args(["-H", &self.host()]).stdin(Stdio::null());
        self.process = Some(dockerd.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let answers = || {
            Command::new("docker")
                .args(["-H", &self.host(), "version"])
                .output()
                .is_ok_and(|output| output.status.success())
        };
        until("the machine gets there", answers, || fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = Command::new("kill").arg(process.id().to_string()).status();
        let _ = process.wait();
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.is_up() {
            let ids = Command::new("docker").args(["-H", &self.host(), "ps", "-aq"]).output();
            let ids = ids.map(|output| text(&output.stdout)).unwrap_or_default();
            let ids: Vec<&str> = ids.split_whitespace().collect();
            let _ = Command::new("docker").args(["-H", &self.host(), "rm", "-f"]).args(ids).output();
        }
        self.stop();
    }
}
