//! A fleet of a hundred machines with seventy files (592 KB) each: a plan from
//! nothing, a plan after an edit that one machine uses, and publishing it.
//! `cargo bench -p lockstep-leader --bench plan`; one line for each, with what it may be at most.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use lockstep_leader::config::Config;
use lockstep_leader::press::{Press, Request};
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Instant;

const MACHINES: usize = 100;
const FILES: usize = 70;
const BYTES: usize = 592_000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    let open = || Press::open(Config::load(folder.path(), []).unwrap(), Vec::new()).unwrap();
    let platform = |own: usize| {
        let text = format!("settings: {{}}\nmachines:\n  m-7: {{OWN: '{own}'}}\n");
        fs::write(folder.path().join("platform.yml"), text).unwrap();
    };
    platform(0);
    let request = |number: usize| Request { author: "bench".into(), message: number.to_string(), ..Request::default() };
    open().publish(&request(0)).unwrap();
    time("a plan from nothing, ms", 300, |number| {
        platform(number);
        let mut press = open();
        let start = Instant::now();
        assert_eq!(press.plan(None).unwrap().changes.len(), 1);
        start
    });
    let mut press = open();
    press.plan(None).unwrap();
    time("a plan after an edit that one machine uses, ms", 20, |number| {
        platform(100 + number);
        let start = Instant::now();
        assert_eq!(press.plan(None).unwrap().changes.len(), 1);
        start
    });
    time("publishing that, durable, ms", 500, |number| {
        platform(200 + number);
        let start = Instant::now();
        assert!(press.publish(&request(number)).unwrap().0.is_some());
        start
    });
    time("publishing what changes all, durable, ms", 500, |number| {
        fs::write(folder.path().join("platform.yml"), format!("settings: {{DOMAIN: 'd{number}.example.com'}}\n"))
            .unwrap();
        let start = Instant::now();
        assert!(press.publish(&request(number)).unwrap().0.is_some());
        start
    });
}

/// The middle of some runs, each from the instant that it returns.
fn time(what: &str, most: u32, mut run: impl FnMut(usize) -> Instant) {
    let mut times: Vec<f64> = (1..=9).map(|number| run(number).elapsed().as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    println!("plan {what}: {:.2} (at most {most})", times[4]);
}

fn lay_out(root: &Path) {
    let put = |path: String, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put(
        "templates/settings.yml".into(),
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      DOMAIN: {default: example.com}\n      PORT: {default: 9000}\n      OWN: {default: '', overridable: true}\n",
    );
    for index in 0..FILES {
        let mut text = format!("# {}\n", if index == 3 { "{{OWN}}" } else { "-" });
        let mut line = 0;
        while text.len() < BYTES / FILES {
            line += 1;
            text += &format!("value_{line} = some text of the configuration that stays as it is\n");
            if line % 10 == 0 {
                text += "server = https://{{DOMAIN}}:{{PORT}}/{{#if DOMAIN}}path{{/if}}\n";
            }
        }
        put(format!("templates/role/component{}/conf/file{index}.conf.hbs", index % 7), &text);
    }
    let follower = |number: usize| {
        let key: String = format!("{number:03}").chars().chain(std::iter::repeat_n('A', 40)).collect();
        format!("\"m-{number}\": {{\"role\": \"role\", \"key\": \"{key}\"}}")
    };
    let followers: Vec<String> = (0..MACHINES).map(follower).collect();
    let path = root.join("config-leader/conf/config-leader.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{{\"followers\": {{{}}}}}", followers.join(", ")).as_bytes())
        .unwrap();
}
