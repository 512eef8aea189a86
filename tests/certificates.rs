//! Public certificates: given once, checked before anything changes, and on
//! machines without a dropped connection. The authority is made here.

use crate::harness::{Engine, Platform, Project, repository, text, until};
use crate::watch::{scrape, value};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const NGINX: &str = "lockstep-test/nginx";

const SETTINGS: &str = "release: 1.0.0\ngroups:\n  G:\n    settings:\n      DOMAIN: {default: example.com}\n      \
    CERTIFICATE: {optional: true, certificate: {key: KEY, covers: ['${DOMAIN}', '*.${DOMAIN}']}}\n      \
    KEY: {optional: true, secret: true}\n";

/// A role whose machines serve HTTPS, and one that has nothing to do with it.
fn platform(followers: &[(&str, &str)]) -> Platform {
    let mut platform = Platform::new(followers);
    platform.template("settings.yml", SETTINGS);
    platform
        .template("core/nginx/conf/secret/bundle.crt.hbs", "{{#if (and CERTIFICATE KEY)}}\n{{CERTIFICATE}}\n{{/if}}\n");
    platform.template("core/nginx/conf/secret/key.pem.hbs", "{{#if (and CERTIFICATE KEY)}}\n{{KEY}}\n{{/if}}\n");
    platform.template("core/role.yml", "files:\n  'nginx/conf/secret/*': {mode: '0600', on_change: 'signal:HUP'}\n");
    platform.template("other/app/conf/x.conf.hbs", "{{DOMAIN}}\n");
    platform.env("LOCKSTEP_ADMIN__PORT", "0");
    platform
}

/// An authority in a folder: root, intermediate, and what they issue.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let made = Self(TempDir::new().unwrap());
        made.request("root", "/CN=root", &["-days", "30", "-addext", "basicConstraints=critical,CA:TRUE"]);
        made.issue("middle", "root", "/CN=middle", &["-days", "30", "-addext", "basicConstraints=critical,CA:TRUE"]);
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn request(&self, name: &str, subject: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            subject,
        ]);
        command
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.pem")));
        let made = command.args(more).output().unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
    }

    fn issue(&self, name: &str, by: &str, subject: &str, more: &[&str]) {
        let (pem, key) = (self.path(&format!("{by}.pem")), self.path(&format!("{by}.key")));
        self.request(name, subject, &[&["-CA", pem.to_str().unwrap(), "-CAkey", key.to_str().unwrap()], more].concat());
    }

    /// A certificate for a server, with its intermediate: the chain's and the key's file.
    fn server(&self, name: &str, days: &str) -> (String, String) {
        let sans = "subjectAltName=DNS:example.com,DNS:*.example.com";
        self.issue(
            name,
            "middle",
            "/CN=example.com",
            &["-days", days, "-addext", sans, "-addext", "basicConstraints=CA:FALSE"],
        );
        let chain = self.path(&format!("{name}-chain.pem"));
        let read = |name: &str| fs::read_to_string(self.path(&format!("{name}.pem"))).unwrap();
        fs::write(&chain, read(name) + &read("middle")).unwrap();
        (chain.to_str().unwrap().to_owned(), self.path(&format!("{name}.key")).to_str().unwrap().to_owned())
    }
}

fn set<'a>(cert: &'a str, key: &'a str) -> Vec<&'a str> {
    vec!["certificates", "set", "--cert", cert, "--key", key, "--yes"]
}

#[test]
fn what_does_not_fit_is_refused_as_a_whole_and_changes_nothing() {
    let mut platform = platform(&[("core-1", "core")]);
    let authority = Authority::new();
    let (chain, key) = authority.server("good", "90");
    let (_, other) = authority.server("other", "90");
    platform.start_leader();
    let yml = || fs::read_to_string(platform.leader_root().join("platform.yml")).unwrap();
    let before = yml();
    let said = platform.refused(&set(&chain, &other));
    assert!(said.contains("nothing was changed:\n  - the private key is that of another certificate"), "{said}");
    let few = authority.path("few.pem");
    authority.issue("few", "middle", "/CN=few", &["-days", "9", "-addext", "subjectAltName=DNS:example.org"]);
    let short = authority.path("few.key");
    let said = platform.refused(&set(few.to_str().unwrap(), short.to_str().unwrap()));
    assert!(said.contains("lacks the names example.com and *.example.com"), "{said}");
    let weak = authority.path("weak.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:1024",
            "-nodes",
            "-subj",
            "/CN=weak",
            "-days",
            "9",
            "-addext",
            "subjectAltName=DNS:example.com,DNS:*.example.com",
            "-keyout",
        ])
        .arg(authority.path("weak.key"))
        .arg("-out")
        .arg(&weak)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let said = platform.refused(&set(weak.to_str().unwrap(), authority.path("weak.key").to_str().unwrap()));
    assert!(said.contains("RSA of 1024 bits"), "{said}");
    let said = platform.refused(&["certificates", "set", "--cert", &chain, "--key", &key]);
    assert!(said.contains("there is no terminal"), "{said}");
    assert_eq!((yml(), platform.good(&["secrets", "list", "--json"]).contains("given")), (before.clone(), false));
    assert_eq!(platform.fleet().revision, 1);

    // By hand, past the command: it is found before anything is published.
    platform.good(&["secrets", "set", "KEY", "--file", &other]);
    let indented = fs::read_to_string(&chain).unwrap().replace('\n', "\n    ");
    platform.platform_yml(&format!("settings:\n  CERTIFICATE: |\n    {}\n", indented.trim_end()));
    for command in [&["validate"][..], &["plan"], &["publish", "--yes"]] {
        let output = platform.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains(
                "platform.yml:2:3: CERTIFICATE, with its key KEY: the private key is that of another certificate"
            ),
            "{said}"
        );
    }
    platform.good(&["secrets", "discard", "KEY"]);
    platform.platform_yml(&before);

    // Without a leader the same, on its files.
    platform.stop_leader();
    platform.good(&set(&chain, &key));
    let shown: Value = serde_json::from_str(&platform.good(&["certificates", "show", "--json"])).unwrap();
    assert_eq!(
        (&shown[0]["certificate"]["issuer"], &shown[0]["problems"], &shown[0]["machines"]),
        (&json!("middle"), &json!([]), &json!(["core-1"]))
    );
}

#[test]
fn a_certificate_that_ends_soon_is_told_everywhere_until_a_hook_renews_it() {
    let mut platform = platform(&[("core-1", "core"), ("other-1", "other")]);
    let authority = Authority::new();
    let (chain, key) = authority.server("soon", "12");
    platform.start_leader();
    let followers = ["core-1", "other-1"].map(|name| platform.follower(name));
    let expiring = || platform.run(&["certificates", "expiring"]);
    assert_eq!(expiring().status.code(), Some(0));
    let published = text(&platform.run(&set(&chain, &key)).stderr);
    assert!(published.contains("note: CERTIFICATE: it ends on"), "{published}");
    let said = expiring();
    assert_eq!(said.status.code(), Some(2));
    assert!(text(&said.stdout).contains("lockstep certificates set"), "{}", text(&said.stdout));
    assert_eq!(platform.run(&["certificates", "expiring", "--days", "5"]).status.code(), Some(0));
    assert!(platform.good(&["status"]).contains("the certificate CERTIFICATE ends on"));
    let page = scrape(&platform.leader_url());
    let ends = value(
        &page,
        "lockstep_certificate_not_after_timestamp_seconds{kind=\"public\",name=\"CERTIFICATE\",machine=\"\"}",
    );
    assert!((11..=12).contains(&((ends - lockstep_edge::clock::now()) / 86_400)), "{ends}");
    // Who has no use for it doesn't get it.
    let written = |name: &str| platform.data(name).join("nginx/conf/secret/key.pem");
    until(
        "core-1 has it",
        || fs::read_to_string(written("core-1")).is_ok_and(|it| it.contains("PRIVATE KEY")),
        || followers[0].log(),
    );
    assert!(!platform.data("other-1").join("nginx").exists());
    // At its next start the leader tells its log.
    platform.stop_leader();
    platform.start_leader();
    until(
        "the log is told",
        || platform.leader().log().contains("the certificate CERTIFICATE ends on"),
        || platform.leader().log(),
    );

    // As certbot has it, then as acme.sh has it.
    let (chain, key) = authority.server("renewed", "90");
    let lineage = authority.path("live");
    fs::create_dir(&lineage).unwrap();
    fs::copy(&chain, lineage.join("fullchain.pem")).unwrap();
    fs::copy(&key, lineage.join("privkey.pem")).unwrap();
    let hook = |environment: &[(&str, &str)]| {
        let mut command = Command::new(repository().join("deploy/acme-hook"));
        command.env("LOCKSTEP_BIN", crate::harness::BINARY).env("LOCKSTEP_ROOT", platform.leader_root());
        command.envs(environment.iter().copied()).stdin(Stdio::null()).output().unwrap()
    };
    let renewed = hook(&[("RENEWED_LINEAGE", lineage.to_str().unwrap())]);
    assert!(
        text(&renewed.stdout).contains("published revision 3"),
        "{}{}",
        text(&renewed.stdout),
        text(&renewed.stderr)
    );
    // The intermediate ends with its authority, in 30 days: the last one to tell of.
    assert_eq!(platform.run(&["certificates", "expiring", "--days", "20"]).status.code(), Some(0));
    let (chain, key) = authority.server("again", "90");
    let renewed = hook(&[("CERT_FULLCHAIN_PATH", &chain), ("CERT_KEY_PATH", &key)]);
    assert!(
        text(&renewed.stdout).contains("published revision 4"),
        "{}{}",
        text(&renewed.stdout),
        text(&renewed.stderr)
    );
    let lost = hook(&[]);
    assert!(
        lost.status.code() == Some(1) && text(&lost.stderr).contains("is this run as a hook?"),
        "{}",
        text(&lost.stderr)
    );
    let secret = fs::read_to_string(&key).unwrap();
    let line = secret.lines().nth(1).unwrap();
    assert!(!platform.leader().log().contains(line) && !platform.good(&["audit", "--json"]).contains(line));
}

/// A connection to nginx that somebody is in the middle of a request on.
struct Open {
    client: Child,
    answer: BufReader<std::process::ChildStdout>,
}

impl Open {
    fn half_a_request(port: &str, root: &Path) -> Self {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{port}"),
                "-servername",
                "example.com",
                "-quiet",
                "-verify_return_error",
                "-CAfile",
            ])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answer = BufReader::new(client.stdout.take().unwrap());
        let mut open = Self { client, answer };
        // One whole request first: then the connection is nginx's for certain.
        open.send("GET /one HTTP/1.1\r\nHost: example.com\r\n\r\n");
        assert!(open.read().contains("200"));
        open.send("GET /two HTTP/1.1\r\nHost: example.com\r\n");
        open
    }

    fn send(&mut self, text: &str) {
        let input = self.client.stdin.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// The next answer: its first line, once all of it is there.
    fn read(&mut self) -> String {
        let mut first = String::new();
        self.answer.read_line(&mut first).unwrap();
        let mut line = String::new();
        while line.trim_end() != "end" {
            line.clear();
            assert!(self.answer.read_line(&mut line).unwrap() > 0, "the connection ended after {first:?}");
        }
        first
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// The serial number of what nginx shows whoever comes now.
fn shown(port: &str, root: &Path) -> String {
    let client = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &format!("127.0.0.1:{port}"),
            "-servername",
            "example.com",
            "-verify_return_error",
            "-CAfile",
        ])
        .arg(root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    serial(&client.stdout)
}

fn serial(pem: &[u8]) -> String {
    let mut openssl = Command::new("openssl")
        .args(["x509", "-noout", "-serial"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = openssl.stdin.take().unwrap().write_all(pem);
    text(&openssl.wait_with_output().unwrap().stdout)
}

#[test]
fn nginx_shows_the_new_certificate_and_drops_nobody() {
    let project = Project::new("https");
    let mut platform = platform(&[("core-1", "core")]);
    let authority = Authority::new();
    platform.template(
        "core/nginx/conf/nginx.conf",
        "events {}\nhttp { server { listen 443 ssl; ssl_certificate secret/bundle.crt; ssl_certificate_key secret/key.pem;\n location / { return 200 'end\\n'; } } }\n",
    );
    platform.template(
        "core/pryv.yml",
        format!("version: '3.5'\nservices:\n  nginx: {{image: {NGINX}, stop_grace_period: 1s, ports: ['127.0.0.1::443'], volumes: ['./nginx/conf:/app/conf:ro']}}\n"),
    );
    let (chain, key) = authority.server("first", "90");
    platform.good(&set(&chain, &key));
    platform.start_leader();
    let _follower = platform.docker_follower("core-1", &project);
    platform
        .until("nginx runs", |fleet| fleet.machines[0].status.as_ref().is_some_and(|status| status.running.is_some()));
    let container = project.container("nginx");
    let started = Engine::started(&container);
    let port = Engine::docker(&["port", &container, "443"]).rsplit(':').next().unwrap().to_owned();
    let root = authority.path("root.pem");
    assert_eq!(shown(&port, &root), serial(&fs::read(&chain).unwrap()));

    let mut open = Open::half_a_request(&port, &root);
    let (chain, key) = authority.server("second", "90");
    let mut command = set(&chain, &key);
    command.push("--wait");
    platform.good(&command);
    let new = serial(&fs::read(&chain).unwrap());
    until("the next handshake shows the new one", || shown(&port, &root) == new, || platform.leader().log());
    open.send("\r\n");
    assert!(open.read().contains("200"), "the request that was under way is answered");
    assert_eq!(Engine::started(&container), started, "by a signal alone");
}
