//! Moving over from the original: the command as an operator types it, asking
//! a running original, switching a machine over real containers, and going on.

use crate::harness::{BINARY, Engine, Platform, Project, repository, text, tree, write};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

fn fixture() -> PathBuf {
    repository().join("tests/fixtures/pryv-single-node")
}

fn import(arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("import-pryv").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A cluster with every accident there is.
fn odd(folder: &Path) {
    let conf = folder.join("config-leader/conf");
    let followers = json!({
        "k1": {"role": "core", "url": "https://co1.example.com"},
        "k2": {"role": "core", "url": "https://co2.example.com"},
        "k3": {"role": "static", "url": "nonsense"}
    });
    let internals = json!({"SECRET_KEY": "s3cr3t-of-all", "OVER": "not this one"});
    write(
        &conf.join("config-leader.json"),
        json!({"http": {"ip": "127.0.0.1", "port": 7000}, "internals": internals, "followers": followers}).to_string(),
    );
    write(
        &conf.join("platform.yml"),
        "vars:\n  G:\n    name: Group\n    settings:\n      DOMAIN: {value: example.com}\n      OVER: {value: 1.50}\n      PULLS: {value: 'https://x:SECRET_KEY@DOMAIN/'}\n      A-B: {value: ['$&', {v: DOMAIN}]}\n",
    );
    let core = folder.join("config-leader/data/core");
    write(&core.join("a/conf/one.json"), "{\"a\": 1}");
    write(&core.join("b/conf/one.json"), "{\"b\": \"DOMAIN\"}");
    write(&core.join("a/conf/x.conf"), "SUBDOMAIN PULLS OVER A-B {{x}} ${DOMAIN}\r\n");
    write(&core.join("a/conf/late.yml"), "a: DOMAIN\n a: [\n");
    write(&core.join("a/conf/blob.bin"), b"\x00\xffDOMAIN");
    write(&core.join("role.yml"), "not lockstep's: DOMAIN\n");
    write(&core.join("a/conf/page.hbs"), "{{#each DOMAIN}}");
    write(&folder.join("config-leader/data/static/web/conf/x"), "nothing");
    write(&folder.join("config-leader/data/credentials.txt"), "password");
}

fn rendered(root: &Path, role: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    let out = root.with_file_name(format!("rendered-{role}"));
    let output =
        Command::new(BINARY).args(["render", role, "--out", path(&out), "--root", path(root)]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files = tree(&out);
    fs::remove_dir_all(out).unwrap();
    files
}

#[test]
fn what_the_original_does_by_accident_is_asked_or_answered() {
    let home = tempfile::tempdir().unwrap();
    let (old, root) = (home.path().join("old"), home.path().join("root"));
    odd(&old);
    let before = tree(&old);
    let refused = import(&[path(&old), "--out", path(&root)]);
    assert_eq!(refused.status.code(), Some(1));
    insta::assert_snapshot!("asked", text(&refused.stderr).replace(path(home.path()), "HOME"));
    assert!(!root.exists());

    let same = import(&[path(&old), "--out", path(&root), "--yes"]);
    assert!(same.status.success(), "{}", text(&same.stderr));
    let told = text(&same.stdout).replace(path(home.path()), "HOME");
    assert!(!told.contains("s3cr3t") && !text(&same.stderr).contains("s3cr3t"));
    insta::assert_snapshot!("account", told);
    let files = rendered(&root, "core");
    let file = |name: &str| text(&files[name]);
    assert!(!files.contains_key("a/conf/one.json"), "the original leaves it out");
    assert_eq!(file("b/conf/one.json"), "{\"b\": \"example.com\"}");
    assert_eq!(
        file("a/conf/x.conf"),
        "SUBexample.com https://x:s3cr3t-of-all@example.com/ 1.5 [\"$&\",{\"v\":\"example.com\"}] {{x}} ${example.com}\r\n"
    );
    assert_eq!(file("a/conf/late.yml"), "a: example.com\n a: [\n");
    assert_eq!(files["a/conf/blob.bin"], "\0\u{fffd}example.com".as_bytes());
    assert_eq!(file("role.yml"), "not lockstep's: example.com\n");
    assert_eq!(file("a/conf/page.hbs"), "{{#each example.com}}");
    let config: Value =
        serde_json::from_slice(&fs::read(root.join("config-leader/conf/config-leader.json")).unwrap()).unwrap();
    assert_eq!(config["followers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["core-1", "core-2", "static"]);
    assert!(!config.to_string().contains("\"k1\""));
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);

    let twice = import(&[path(&old), "--out", path(&root), "--yes"]);
    assert!(text(&twice.stderr).contains("is not empty"), "{}", text(&twice.stderr));
    let within = import(&[path(&old), "--out", path(&old.join("new")), "--yes"]);
    assert!(text(&within.stderr).contains("lies within the old installation"), "{}", text(&within.stderr));

    let meant = home.path().join("meant");
    let flags = ["--names-in-words", "--secrets-in-settings", "--equal-base-names", "--binary"];
    let mut arguments = vec![path(&old), "--out", path(&meant)];
    arguments.extend(flags.iter().flat_map(|flag| [*flag, "meant"]));
    let output = import(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files = rendered(&meant, "core");
    let file = |name: &str| text(&files[name]);
    assert_eq!(file("a/conf/one.json"), "{\"a\": 1}");
    assert!(
        file("a/conf/x.conf").starts_with("SUBDOMAIN https://x:SECRET_KEY@example.com/ 1.5"),
        "{}",
        file("a/conf/x.conf")
    );
    assert_eq!(files["a/conf/blob.bin"], b"\x00\xffDOMAIN");
    assert_eq!(before, tree(&old), "the old installation is never written");
}

/// A leader of the original, as far as it goes: one answer for those with the key.
fn original(body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let known = head[0].starts_with("GET /conf ") && head.iter().any(|line| line == "authorization: old-key");
            let (status, body) = if known { ("200 OK", body.as_str()) } else { ("403 Forbidden", "{}") };
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    url
}

#[test]
fn a_running_original_is_asked_and_compared() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    let done = import(&[path(&fixture().join("input")), "--out", path(&root), "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let expected: std::collections::BTreeMap<_, _> = tree(&fixture().join("expected/singlenode"));
    assert_eq!(rendered(&root, "singlenode"), expected);

    let body = fs::read_to_string(fixture().join("expected/singlenode.response.json")).unwrap();
    let verify = |body: String, key: &str| import(&["--verify", &original(body), "--key", key, "--out", path(&root)]);
    let same = verify(body.clone(), "old-key");
    assert_eq!(
        (same.status.code(), text(&same.stdout).as_str()),
        (Some(0), "role singlenode: 49 files, every byte the same\n")
    );
    let other = body
        .replace("c3F4g5H6i7J8k9L0m1N2o3P4q5R6s7T8", "another-secret-of-the-core")
        .replace("/redis/conf/redis.conf", "/redis/conf/more.conf");
    let differs = verify(other, "old-key");
    assert_eq!(differs.status.code(), Some(2), "{}", text(&differs.stderr));
    let shown = text(&differs.stdout);
    assert!(
        shown.contains("--- original core/conf/core.yml") && shown.contains("redis/conf/more.conf: only the original"),
        "{shown}"
    );
    assert!(!shown.contains("c3F4g5H6") && !shown.contains("another-secret"), "secrets are masked: {shown}");
    // A secret that the original made up is known to its running leader only.
    let unsaid = home.path().join("unsaid");
    for (name, content) in tree(&fixture().join("input")) {
        let content = if name == "config-leader.json" {
            text(&content).replace("c3F4g5H6i7J8k9L0m1N2o3P4q5R6s7T8", "SECRET").into_bytes()
        } else {
            content
        };
        write(&unsaid.join(name), content);
    }
    let (without, with) = (home.path().join("without"), home.path().join("with"));
    let done = import(&[path(&unsaid), "--out", path(&without), "--yes"]);
    assert!(text(&done.stdout).contains("lockstep secrets set: CORE_SYSTEM_KEY"), "{}", text(&done.stdout));
    let made_up = body.replace("c3F4g5H6i7J8k9L0m1N2o3P4q5R6s7T8", "0123456789abcdefghijklmnopqrstuv");
    let url = original(made_up);
    let done = import(&[path(&unsaid), "--out", path(&with), "--yes", "--verify", &url, "--key", "old-key"]);
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
    assert!(text(&done.stdout).contains("read off what it served: CORE_SYSTEM_KEY"), "{}", text(&done.stdout));
    assert!(text(&rendered(&with, "singlenode")["core/conf/core.yml"]).contains("0123456789abcdefghijklmnopqrstuv"));
    let refused = verify(body, "wrong");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("403 Forbidden; give the key"), "{}", text(&refused.stderr));
}

/// A single node of the original with two services, and what its follower wrote.
fn installation(old: &Path) {
    let volume = |name: &str| format!("${{PRYV_CONF_ROOT}}/pryv/{name}/conf/:/app/conf/:ro");
    let compose = ["web", "db"]
        .map(|name| format!("  {name}:\n    image: lockstep-test/busybox\n    volumes: [\"{}\"]\n", volume(name)));
    let files = [
        ("pryv.yml", format!("version: \"3.5\"\nservices:\n{}", compose.concat())),
        ("web/conf/site.conf", "server DOMAIN SIZE_MBm\n".to_owned()),
        ("db/conf/db.conf", "size SIZE_MB\n".to_owned()),
        ("db/data/.gitkeep", String::new()),
        ("db/backup/.gitkeep", String::new()),
    ];
    for (name, content) in &files {
        write(&old.join("config-leader/data/singlenode").join(name), content);
        let served = content.replace("DOMAIN", "example.com").replace("SIZE_MB", "20");
        if !name.ends_with(".gitkeep") {
            write(&old.join("pryv").join(name), served);
        }
    }
    fs::create_dir_all(old.join("pryv/db/backup")).unwrap();
    fs::set_permissions(old.join("pryv/db/conf/db.conf"), fs::Permissions::from_mode(0o640)).unwrap();
    let config = json!({
        "followers": {"old": {"role": "singlenode", "url": "http://pryvio_config_follower:6000"}}, "internals": {"KEY": "unused-here"}
    });
    write(&old.join("config-leader/conf/config-leader.json"), config.to_string());
    let vars = |domain: &str| {
        format!(
            "vars:\n  G:\n    settings:\n      DOMAIN: {{value: {domain}, description: \"The\n      domain\"}}\n      SIZE_MB: {{value: 20}}\n"
        )
    };
    write(&old.join("config-leader/conf/platform.yml"), vars("example.com"));
    write(&old.join("config-leader/conf/template-platform.yml"), vars("REPLACE_ME"));
    write(
        &old.join("config-follower/conf/config-follower.json"),
        json!({"leader": {"url": "http://leader:7000", "auth": "old"}}).to_string(),
    );
}

fn switch(arguments: &[&str]) -> Output {
    let mut command = Command::new(repository().join("scripts/switch-from-pryv"));
    command.args(arguments).env("LOCKSTEP_BIN", BINARY).env_remove("LOCKSTEP_ROOT").stdin(Stdio::null());
    command.output().unwrap()
}

/// Stops the follower that a failing test would leave running.
struct Follower<'r>(&'r Path);

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        let script = repository().join("scripts/stop-config-follower");
        let _ = Command::new(script).args(["--force", "--root", path(self.0)]).env("LOCKSTEP_BIN", BINARY).output();
    }
}

#[test]
fn a_machine_is_switched_over_and_back_and_nothing_is_restarted() {
    let (project, pair) = (Project::new("pryv"), Project::new("pryvpair"));
    let mut platform = Platform::new(&[]);
    let (old, root) = (platform.home.path().join("old"), platform.leader_root());
    installation(&old);
    fs::remove_dir_all(&root).unwrap();
    let mount = |name: &str| format!("{}:/app/conf:ro", old.join("pryv").join(name).join("conf").display());
    let services = ["web", "db"]
        .map(|name| project.run(name, &["-v", &mount(name)], "lockstep-test/busybox", &["sleep", "infinity"]));
    let original = pair.run("follower", &["--restart=always"], "lockstep-test/busybox", &["sleep", "infinity"]);
    let before = services.each_ref().map(|name| Engine::started(name));

    let done = import(&[path(&old), "--out", path(&root), "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let role = fs::read_to_string(root.join("templates/singlenode/role.yml")).unwrap();
    assert!(role.contains("\"db/conf/db.conf\": {mode: \"0640\"}"), "{role}");
    platform.env("LOCKSTEP_HTTP__PORT", "0");
    let url = platform.start_leader();
    let config = root.join("followers/singlenode/config-follower.json");
    let mut own: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    own["http"]["port"] = json!(0);
    own["leader"]["url"] = json!(url);
    own["docker"] = json!({"project": project.name});
    fs::write(&config, own.to_string()).unwrap();

    let _follower = Follower(&old);
    let there = ["--old", path(&old), "--config", path(&config), "--container", &original];
    let switched = switch(&there);
    let told = text(&switched.stdout) + &text(&switched.stderr);
    assert!(switched.status.success(), "{told}");
    assert!(told.contains("No container was restarted"), "{told}");
    assert_eq!(before, services.each_ref().map(|name| Engine::started(name)));
    assert_eq!(Engine::docker(&["inspect", "-f", "{{.State.Running}}", &original]), "false");
    let again = switch(&there);
    assert!(text(&again.stderr).contains("was switched over already"), "{}", text(&again.stderr));

    // From now on it is a platform like any other.
    platform.good(&["settings", "set", "DOMAIN", "new.example.com"]);
    platform.publish();
    let after = services.each_ref().map(|name| Engine::started(name));
    assert_eq!([before[0] != after[0], before[1] != after[1]], [true, false]);
    assert_eq!(Engine::exec(&services[0], &["cat", "/app/conf/site.conf"]), "server new.example.com 20m");
    platform.good(&["rollback", "1", "--yes"]);
    platform.until("the machine is back", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status.and_then(|status| status.running.as_ref()).is_some_and(|running| running.revision == 3)
    });
    assert_eq!(Engine::exec(&services[0], &["cat", "/app/conf/site.conf"]), "server example.com 20m");

    let before = services.each_ref().map(|name| Engine::started(name));
    let back = switch(&["--old", path(&old), "--back"]);
    assert!(back.status.success(), "{}{}", text(&back.stdout), text(&back.stderr));
    assert_eq!(before, services.each_ref().map(|name| Engine::started(name)));
    assert_eq!(
        Engine::docker(&["inspect", "-f", "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}", &original]),
        "true always"
    );
    let config = fs::read_to_string(old.join("config-follower/conf/config-follower.json")).unwrap();
    assert!(config.contains("\"auth\":\"old\""), "{config}");
}

/// What the original's own migrations did: a name changes, settings come and
/// go, over three versions of an imported platform and back.
#[test]
fn an_imported_platform_goes_on_over_three_releases() {
    let mut platform = Platform::new(&[]);
    let (old, root) = (platform.home.path().join("old"), platform.leader_root());
    installation(&old);
    fs::remove_dir_all(&root).unwrap();
    let done = import(&[path(&old), "--out", path(&root), "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    platform.env("LOCKSTEP_HTTP__PORT", "0");
    platform.start_leader();
    platform.good(&["settings", "set", "SIZE_MB", "30"]);
    platform.good(&["publish", "--yes"]);
    let site =
        |platform: &Platform| platform.good(&["show", "--machine", "singlenode", "--file", "web/conf/site.conf"]);
    assert_eq!(site(&platform), "server example.com 30m\n");

    let release = |version: &str, settings: &str, site: &str| {
        let settings = format!("release: {version}\ngroups:\n  G:\n    settings:\n{settings}");
        platform.template("settings.yml", settings + "  INTERNALS:\n    settings:\n      KEY: {secret: true}\n");
        platform.template("singlenode/web/conf/site.conf.hbs", site);
    };
    platform.template(
        "migrations/1.1.0.yml",
        "from: 1.0.0\nto: 1.1.0\nsteps:\n  - rename: SIZE_MB\n    to: MAX_UPLOAD_MB\n",
    );
    platform.template("singlenode/db/conf/db.conf.hbs", "size {{MAX_UPLOAD_MB}}\n");
    // A setting that comes needs no step: its default says what it is.
    let second = "      DOMAIN: {schema: {type: string}}\n      MAX_UPLOAD_MB: {schema: {type: integer}, default: 20}\n      GREETING: {schema: {type: string}, default: 'hello ${DOMAIN}'}\n";
    release("1.1.0", second, "server {{DOMAIN}} {{MAX_UPLOAD_MB}}m {{GREETING}}\n");
    platform.good(&["migrate", "--yes"]);
    platform.good(&["publish", "--yes"]);
    assert_eq!(site(&platform), "server example.com 30m hello example.com\n");

    platform.good(&["settings", "set", "GREETING", "good day"]);
    platform.template(
        "migrations/2.0.0.yml",
        "from: 1.1.0\nto: 2.0.0\nsteps:\n  - delete: GREETING\n    back: welcome back\n  - rename: DOMAIN\n    to: HOST\n",
    );
    let third = "      HOST: {schema: {type: string}}\n      MAX_UPLOAD_MB: {schema: {type: integer}, default: 20}\n";
    release("2.0.0", third, "server {{HOST}} {{MAX_UPLOAD_MB}}m\n");
    platform.good(&["migrate", "--yes"]);
    platform.good(&["publish", "--yes"]);
    assert_eq!(site(&platform), "server example.com 30m\n");
    let platform_yml = fs::read_to_string(root.join("platform.yml")).unwrap();
    assert!(platform_yml.contains("  HOST: example.com\n  MAX_UPLOAD_MB: 30\nrelease: 2.0.0\n"), "{platform_yml}");

    platform.good(&["migrate", "--to", "1.0.0", "--yes"]);
    let platform_yml = fs::read_to_string(root.join("platform.yml")).unwrap();
    assert!(platform_yml.contains("  DOMAIN: example.com\n  SIZE_MB: 30\n"), "{platform_yml}");
}
