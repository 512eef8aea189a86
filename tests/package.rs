//! The Debian package, installed, upgraded and removed in a Debian that has nothing else.

use crate::harness::{BINARY, repository, text, write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn good(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {status}\n{}{}", text(&stdout), text(&stderr));
    text(&stdout) + &text(&stderr)
}

/// A Debian of its own below a folder.
struct Debian(PathBuf);

impl Debian {
    fn new(below: &Path) -> Self {
        let root = below.join("debian");
        good(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&root));
        Self(root)
    }

    fn run(&self, line: &str) -> String {
        good(Command::new("chroot").arg(&self.0).args(["sh", "-c", line]))
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path.trim_start_matches('/')).exists()
    }
}

/// The package in version `version`, as a file that `debian` sees; what was printed names the tarball too.
fn package(program: &Path, version: &str, debian: &Debian) -> (String, PathBuf) {
    let out = debian.0.join("packages");
    let mut command = Command::new(repository().join("deploy/package"));
    command.arg("--binary").arg(program).arg("--out").arg(&out).args(["--version", version]);
    // Small enough is not what is tested here.
    command.env("DPKG_DEB_COMPRESSOR_TYPE", "gzip").env("DPKG_DEB_COMPRESSOR_LEVEL", "1");
    let made = good(&mut command);
    let mut lines = made.lines();
    let name = Path::new(lines.next().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    (format!("/packages/{name}"), PathBuf::from(lines.next().unwrap()))
}

#[test]
fn it_is_installed_upgraded_and_removed_and_the_home_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("lockstep");
    good(Command::new("strip").args([BINARY, "-o"]).arg(&program));
    let debian = Debian::new(folder.path());

    let (first, tarball) = package(&program, "0.0.1~test", &debian);
    let listed = good(Command::new("tar").arg("-tzf").arg(&tarball));
    for member in [
        "usr/bin/lockstep",
        "usr/share/man/man1/lockstep-plan.1.gz",
        "usr/share/lockstep/templates/settings.yml",
        "usr/share/lockstep/acme-hook",
    ] {
        assert!(listed.contains(&format!("/{member}\n")), "{member} in {listed}");
    }
    // Made again, it is the same to the last byte.
    let bytes = || fs::read(debian.0.join(first.trim_start_matches('/'))).unwrap();
    let before = bytes();
    package(&program, "0.0.1~test", &debian);
    assert!(before == bytes());

    let said = debian.run(&format!("dpkg -i {first}"));
    assert!(said.contains("lockstep init-platform"), "what to do next: {said}");
    assert!(debian.run("lockstep --version").contains("lockstep "));
    for unit in ["lockstep-leader", "lockstep-follower"] {
        let unit = fs::read_to_string(debian.0.join(format!("lib/systemd/system/{unit}.service"))).unwrap();
        assert!(unit.contains("ExecStart=/usr/bin/lockstep ") && !unit.contains("sudo cp"), "{unit}");
    }
    assert!(debian.run("bash -n /usr/share/bash-completion/completions/lockstep && dpkg --verify lockstep").is_empty());

    // The shipped release and scripts work from where they were put.
    let home = debian.0.join("var/lib/lockstep");
    write(&home.join("platform.yml"), "settings: {}\n");
    debian.run("cp -R /usr/share/lockstep/templates /var/lib/lockstep/templates");
    let said = debian.run("lockstep validate; true");
    assert!(said.contains("DOMAIN"), "the release asks for its settings: {said}");
    assert!(debian.run("/usr/share/lockstep/scripts/run-config-leader --help").contains("--docker"));

    // A platform from the program alone, where nothing else is installed.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = "init-platform --root /srv/new --role singlenode --set DOMAIN=example.com --set SINGLE_MACHINE_IP_ADDRESS=192.0.2.1";
    let said = debian.run(&format!("lockstep {line} --listen 127.0.0.1:{port} --yes"));
    assert!(said.contains("is a platform, and revision 1 is published") && said.contains("join-platform "), "{said}");
    assert!(debian.has("/srv/new/templates/singlenode/pryv.yml.hbs") && debian.has("/srv/new/state/store.db"));

    let (second, _) = package(&program, "0.0.2~test", &debian);
    debian.run("echo '# mine' >> /etc/logrotate.d/lockstep");
    debian.run(&format!("dpkg -i --force-confold {second}"));
    assert!(debian.run("dpkg -s lockstep").contains("Version: 0.0.2~test"));
    assert!(fs::read_to_string(debian.0.join("etc/logrotate.d/lockstep")).unwrap().ends_with("# mine\n"));
    assert_eq!(fs::read_to_string(home.join("platform.yml")).unwrap(), "settings: {}\n");

    debian.run("dpkg -r lockstep");
    assert!(!debian.has("/usr/bin/lockstep") && debian.has("/etc/logrotate.d/lockstep"));
    let said = debian.run("dpkg -P lockstep");
    assert!(said.contains("/var/lib/lockstep is kept"), "{said}");
    assert!(!debian.has("/etc/logrotate.d/lockstep") && debian.has("/var/lib/lockstep/platform.yml"));
    // With nothing in it there is nothing to keep.
    debian.run(&format!("rm -r /var/lib/lockstep && dpkg -i {second} && dpkg -P lockstep"));
    assert!(!debian.has("/var/lib/lockstep"));
}
