//! The release that ships: every rendered file is valid for the program that reads it.

use crate::harness::{Platform, Project, repository, text};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CLUSTER: &str = "settings:
  DOMAIN: example.com
  REG_MASTER_IP_ADDRESS: 192.0.2.20
  REG_SLAVE_IP_ADDRESS: 192.0.2.21
  STATIC_IP_ADDRESS: 192.0.2.30
  CORE_IP_ADDRESSES: {core-1: 192.0.2.11, core-2: 192.0.2.12}
";
const SINGLE: &str = "settings:\n  DOMAIN: example.com\n  SINGLE_MACHINE_IP_ADDRESS: 192.0.2.10\n";

/// The shipped release under a platform file, with one follower a role.
fn shipped(platform_yml: &str, followers: &[(&str, &str)]) -> Platform {
    let platform = Platform::new(followers);
    let templates = platform.leader_root().join("templates");
    fs::remove_dir_all(&templates).unwrap();
    let copied = Command::new("cp").arg("-r").arg(repository().join("templates")).arg(&templates).status().unwrap();
    assert!(copied.success());
    platform.platform_yml(platform_yml);
    platform
}

fn certificate(platform: &mut Platform) {
    let pem = platform.home.path().join("tls");
    fs::create_dir_all(&pem).unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=example.com",
            "-keyout",
        ])
        .arg(pem.join("key"))
        .arg("-out")
        .arg(pem.join("crt"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let read = |name: &str| fs::read_to_string(pem.join(name)).unwrap();
    platform.env("LOCKSTEP_SECRET_TLS_KEY", &read("key"));
    let indented = read("crt").replace('\n', "\n    ");
    let yml = platform.leader_root().join("platform.yml");
    let with = fs::read_to_string(&yml).unwrap() + &format!("  TLS_CERTIFICATE: |\n    {}\n", indented.trim_end());
    fs::write(&yml, with).unwrap();
}

fn rendered(platform: &Platform, role: &str) -> PathBuf {
    let out = platform.home.path().join("out").join(role);
    platform.good(&["render", role, "--out", out.to_str().unwrap()]);
    out
}

fn succeeds(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/test, which installs it"));
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
}

fn read_by_their_programs(tree: &Path) {
    let nginx = tree.join("nginx/conf/nginx.conf");
    fs::create_dir_all(tree.join("nginx/run")).unwrap();
    succeeds(Command::new("nginx").arg("-t").arg("-c").arg(&nginx).arg("-p").arg(tree.join("nginx/run")));
    succeeds(
        Command::new("docker-compose")
            .args(["-f"])
            .arg(tree.join("pryv.yml"))
            .args(["config", "-q"])
            .env("PRYV_CONF_ROOT", tree),
    );
}

#[test]
fn cluster() {
    let followers = [
        ("core-1", "core"),
        ("core-2", "core"),
        ("reg-1", "reg-master"),
        ("reg-2", "reg-slave"),
        ("static-1", "static"),
    ];
    let mut platform = shipped(CLUSTER, &followers);
    platform.good(&["validate"]);
    for role in ["core", "reg-master", "reg-slave", "static"] {
        read_by_their_programs(&rendered(&platform, role));
    }
    certificate(&mut platform);
    fs::remove_dir_all(platform.home.path().join("out")).unwrap();
    for role in ["core", "reg-master", "reg-slave", "static"] {
        let tree = rendered(&platform, role);
        read_by_their_programs(&tree);
        let nginx: String = fs::read_dir(tree.join("nginx/conf"))
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
            .collect();
        assert!(nginx.contains("ssl_certificate"), "{role}");
        assert_eq!(nginx.contains("server_name lead.example.com"), role == "reg-master", "{role}");
        assert!(nginx.contains("location = /notify"), "{role}");
    }
    // With TLS of their own, leader and followers reach each other directly.
    platform.platform_yml(&format!(
        "{}  LEADER_BEHIND_NGINX: false\n",
        fs::read_to_string(platform.leader_root().join("platform.yml")).unwrap()
    ));
    fs::remove_dir_all(platform.home.path().join("out")).unwrap();
    let tree = rendered(&platform, "reg-master");
    read_by_their_programs(&tree);
    let site = fs::read_to_string(tree.join("nginx/conf/site-443.conf")).unwrap();
    assert!(!site.contains("lead.example.com") && !site.contains("/notify"));
}

#[test]
fn single_node() {
    let mut platform = shipped(SINGLE, &[("all-1", "singlenode")]);
    read_by_their_programs(&rendered(&platform, "singlenode"));
    certificate(&mut platform);
    fs::remove_dir_all(platform.home.path().join("out")).unwrap();
    let tree = rendered(&platform, "singlenode");
    read_by_their_programs(&tree);
    let dns = fs::read_to_string(tree.join("dns/conf/dns.json")).unwrap();
    assert!(dns.contains("\"lead\"") || dns.contains("lead."), "{dns}");
}

/// Redis runs on its own configuration, in a container as compose would start it.
#[test]
fn redis_starts_on_its_own_configuration() {
    let platform = shipped(SINGLE, &[("all-1", "singlenode")]);
    let tree = rendered(&platform, "singlenode");
    let project = Project::new("redis");
    let conf = format!("{}:/app/conf:ro", tree.join("redis/conf").display());
    let data = format!("{}:/app/data", tree.join("redis/data").display());
    let name = project.run(
        "redis",
        &["-v", &conf, "-v", &data, "-w", "/app/data"],
        "lockstep-test/redis",
        &["redis-server", "/app/conf/redis.conf"],
    );
    let text = fs::read_to_string(tree.join("redis/conf/redis.conf")).unwrap();
    let password =
        text.lines().find_map(|line| line.strip_prefix("requirepass ")).unwrap().trim_matches('"').to_owned();
    let start = std::time::Instant::now();
    loop {
        let pong = Command::new("docker")
            .args(["exec", "-e", &format!("REDISCLI_AUTH={password}"), &name, "redis-cli", "ping"])
            .output()
            .unwrap();
        if pong.stdout == b"PONG\n" {
            break;
        }
        assert!(start.elapsed() < crate::harness::PATIENCE, "{}", crate::harness::text(&pong.stderr));
    }
}

/// The whole static role comes up from nothing and serves.
#[test]
fn a_machine_of_the_release_boots() {
    let project = Project::new("boot");
    let unique = &project.name[project.name.len() - 8..];
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, https) = (free(), free());
    let settings = format!(
        "{SINGLE}  IMAGE_NGINX: lockstep-test/nginx\n  NGINX_HTTP_PORT: {http}\n  NGINX_HTTPS_PORT: {https}\n  CONTAINER_PREFIX: ls{unique}\n  NETWORK_FRONTEND: ls{unique}_frontend\n  NETWORK_BACKEND: ls{unique}_backend\n"
    );
    let mut platform = shipped(&settings, &[("static-1", "static")]);
    let leader = platform.start_leader();
    platform.write_follower_config("static-1", &leader, &json!({"project": project.name}));
    let _follower = platform.start_follower("static-1");
    platform.publish();
    assert_eq!(project.containers().len(), 1);
}
