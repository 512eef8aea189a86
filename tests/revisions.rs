//! Looking back and going back; backup and restore; a store that fails.

use crate::harness::{BINARY, PATIENCE, Platform, text, tree};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn platform() -> Platform {
    let platform = Platform::new(&[("core-1", "core"), ("web-1", "web")]);
    platform.template(
        "settings.yml",
        "release: 1.0.0\ngroups:\n  G:\n    settings:\n      V: {default: zero, overridable: true}\n      W: {default: same}\n      \
         TOKEN: {secret: {generate: {bytes: 32, encoding: hex}}}\n",
    );
    platform.template("core/app/conf/a.conf.hbs", "{{V}} {{machine.name}}\n");
    platform.template("core/app/conf/secret.conf.hbs", "token = {{TOKEN}}\nvalue = {{V}}\n");
    platform.template("core/app/conf/run.sh", "#!/bin/sh\n");
    platform.template("web/nginx/conf/b.conf.hbs", "{{W}}\n");
    platform
}

fn set(platform: &Platform, value: &str) {
    platform.platform_yml(&format!("# by hand\nsettings:\n  V: {value}\n"));
}

fn json(platform: &Platform, arguments: &[&str]) -> Value {
    let output = platform.run(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", text(&output.stderr)))
}

/// What a follower is served, as it is: without the revision's number, which is not part of the content.
fn served(platform: &Platform, machine: &str) -> Value {
    let client = platform.client(machine);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(client.send(http::Method::GET, "/conf", &[], None, PATIENCE)).unwrap();
    let mut bundle: Value = serde_json::from_slice(&answer.body).unwrap();
    bundle.as_object_mut().unwrap().remove("revision").unwrap();
    bundle
}

#[test]
fn a_rollback_serves_the_old_bytes_as_a_new_revision() {
    let mut platform = platform();
    platform.start_leader();
    let mut history = vec![served(&platform, "core-1")];
    for round in 2..=10 {
        set(&platform, &format!("value-{round}"));
        // The template changes as well: what is rendered anew would differ.
        platform.template("core/app/conf/a.conf.hbs", format!("{{{{V}}}} round {round}\n"));
        platform.good(&["publish", "--yes", "-m", &format!("round {round}")]);
        history.push(served(&platform, "core-1"));
    }
    let asked = platform.refused(&["rollback", "3"]);
    assert!(asked.contains("--yes"), "{asked}");
    assert_eq!(platform.fleet().revision, 10);
    for (to, next) in [(3, 11), (10, 12), (1, 13)] {
        let said = platform.run(&["rollback", &to.to_string(), "--yes", "-m", "it broke"]);
        assert!(said.status.success(), "{}", text(&said.stderr));
        assert_eq!(served(&platform, "core-1"), history[to - 1], "revision {to}");
        let entry = &json(&platform, &["history", "--limit", "1"])["revisions"][0];
        assert_eq!(entry["number"], next);
        assert_eq!(entry["rolled_back_to"], to);
        assert_eq!(entry["message"], format!("rollback to revision {to}: it broke"));
    }
    // Durable, and served by a leader that starts anew.
    platform.kill_leader();
    platform.start_leader();
    assert_eq!(served(&platform, "core-1"), history[0]);
    // The edit is still on disk, and everybody is told.
    let plan = platform.run(&["plan"]);
    assert_eq!(plan.status.code(), Some(2));
    assert!(text(&plan.stderr).contains("rollback to revision 1"), "{}", text(&plan.stderr));
    assert!(text(&platform.run(&["status"]).stderr).contains("--with-platform"));
    let again = platform.run(&["rollback", "1", "--yes", "--with-platform"]);
    assert!(text(&again.stderr).contains("kept as"), "{}", text(&again.stderr));
    let root = platform.leader_root();
    assert_eq!(fs::read_to_string(root.join("platform.yml")).unwrap(), "settings: {}\n");
    assert!(fs::read_to_string(root.join("platform.before-13.yml")).unwrap().contains("value-10"));
    assert_eq!(platform.fleet().revision, 13, "nothing but the file changed");
    let out = platform.home.path().join("source");
    platform.good(&["show", "1", "--source", out.to_str().unwrap()]);
    assert_eq!(text(&tree(&out)["templates/core/app/conf/a.conf.hbs"]), "{{V}} {{machine.name}}\n");
    assert!(platform.good(&["audit"]).contains("revision 11, the content of 3"));
    assert!(platform.refused(&["rollback", "99", "--yes"]).contains("revisions 1 to 13"));
}

#[test]
fn a_rollback_gives_every_declared_machine_something_sensible() {
    let mut all = Platform::new(&[("core-1", "core"), ("core-2", "core"), ("web-1", "web")]);
    all.settings(&[("V", "zero")]);
    all.template("core/app/conf/a.conf.hbs", "{{V}} {{machine.name}}\n");
    let declare = |platform: &Platform, names: &[&str]| {
        let followers = names.iter().map(|name| {
            let role = name.split('-').next().unwrap();
            (name.to_string(), serde_json::json!({"role": role, "key": platform.key_text(name)}))
        });
        let config =
            serde_json::json!({"http": {"port": 0}, "followers": followers.collect::<serde_json::Map<_, _>>()});
        let path = platform.leader_root().join("config-leader/conf/config-leader.json");
        fs::write(&path, config.to_string()).unwrap();
    };
    declare(&all, &["core-1"]);
    all.platform_yml("settings: {V: one}\nmachines: {core-1: {V: own}}\n");
    all.good(&["publish", "--yes"]);
    // One more of the role, one of a role that revision 1 doesn't know; the first is gone.
    declare(&all, &["core-2", "web-1"]);
    all.platform_yml("settings: {V: two}\n");
    all.template("web/nginx/conf/b.conf.hbs", "{{V}}\n");
    all.good(&["publish", "--yes"]);
    let output = all.run(&["rollback", "1", "--yes"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("core-1 is no longer declared"), "{said}");
    assert!(said.contains("core-2 was not declared then: rendered"), "{said}");
    assert!(said.contains("web-1 was not declared then: it keeps what it has"), "{said}");
    all.start_leader();
    let content = |machine: &str| served(&all, machine)["files"][0]["content"].clone();
    assert_eq!((content("core-2"), content("web-1")), ("one core-2\n".into(), "two\n".into()));
    assert_eq!(all.fleet().revision, 3, "what is served at the start is what was published");
}

#[test]
fn history_show_diff_and_blame_say_who_what_when() {
    let mut platform = platform();
    platform.start_leader();
    set(&platform, "one");
    platform.good(&["publish", "--yes", "-m", "first edit\nnot a second line"]);
    platform.platform_yml("settings:\n  V: one\nmachines:\n  core-1: {V: own}\n");
    platform.good(&["publish", "--yes"]);
    platform.platform_yml("settings:\n  W: other\n");
    platform.good(&["publish", "--yes"]);

    let history = platform.good(&["history"]);
    assert!(history.contains("first edit not a second line"), "{history}");
    assert!(history.contains("core-1: app/conf/a.conf, app/conf/secret.conf"), "{history}");
    let numbers = |arguments: &[&str]| -> Vec<u64> {
        let listing = json(&platform, &[&["history"], arguments].concat());
        listing["revisions"].as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&[]), [4, 3, 2, 1]);
    assert_eq!(numbers(&["--machine", "web-1"]), [4, 1]);
    assert_eq!(numbers(&["--limit", "2", "--before", "4"]), [3, 2]);
    assert!(platform.refused(&["history", "--machine", "web-2"]).contains("did you mean web-1"));

    let token = platform.good(&["show", "1", "--machine", "core-1", "--file", "app/conf/secret.conf", "--reveal"]);
    let token = token.lines().next().unwrap().strip_prefix("token = ").unwrap().to_owned();
    assert_eq!(token.len(), 64);
    let audit = platform.good(&["audit"]);
    assert!(audit.contains("app/conf/secret.conf of core-1, secrets shown"), "{audit}");
    let diff = platform.run(&["diff", "1", "2"]);
    assert_eq!(diff.status.code(), Some(2));
    let mut shown = text(&diff.stdout);
    assert!(shown.contains("+  V: one") && shown.contains("+value = one"), "{shown}");
    assert_eq!(platform.run(&["diff", "2", "2"]).status.code(), Some(0));
    let one = json(&platform, &["diff", "3", "4", "--machine", "web-1"]);
    assert_eq!(one["machines"].as_array().unwrap().len(), 1);
    for arguments in [
        &["show", "1"][..],
        &["show", "2", "--machine", "core-1"],
        &["show", "2", "--machine", "core-1", "--file", "app/conf/secret.conf"],
        &["show", "2", "--machine", "core-1", "--file", "app/conf/secret.conf", "--json"],
        &["show", "2", "--file", "platform.yml"],
        &["diff", "1", "4", "--json"],
        &["history", "--json"],
    ] {
        let output = platform.run(arguments);
        shown += &text(&output.stdout);
        shown += &text(&output.stderr);
    }
    assert!(shown.contains("••••") && !shown.contains(&token), "{shown}");
    assert!(platform.refused(&["show", "5"]).contains("there are revisions 1 to 4"));
    assert!(platform.refused(&["show", "1", "--machine", "core-2"]).contains("core-1"));

    let blame = json(&platform, &["blame", "V"]);
    let changes: Vec<(u64, Option<&str>, Option<u64>)> = blame["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            (change["revision"]["number"].as_u64().unwrap(), change["value"].as_str(), change["line"].as_u64())
        })
        .collect();
    assert_eq!(changes, [(4, None, None), (2, Some("\"one\""), Some(3))]);
    let own = json(&platform, &["blame", "V", "--machine", "core-1", "--limit", "2"]);
    assert_eq!(own["changes"][1]["revision"]["number"], 3);
    assert_eq!((&own["changes"][1]["own"], &own["more"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(platform.good(&["blame", "W"]).contains("platform.yml:2: W: other"));
    assert!(platform.refused(&["blame", "TOKEN"]).contains("secret"));
    assert!(platform.refused(&["blame", "VV"]).contains("no revision has a setting VV"));
    // The same without a leader.
    let listing = json(&platform, &["history"]);
    platform.kill_leader();
    assert_eq!(json(&platform, &["history"]), listing);
}

#[test]
fn what_a_machine_ran_is_what_it_had_proven() {
    let mut platform = platform();
    platform.start_leader();
    let before = json(&platform, &["show", "--machine", "core-1", "--at", "9999-01-01T00:00:00Z"]);
    assert_eq!((&before["known"], &before["revision"]["number"]), (&"published".into(), &1.into()));
    let _follower = platform.follower("core-1");
    set(&platform, "one");
    let output = platform.run(&["publish", "--yes"]);
    assert!(output.status.success());
    platform.until("core-1 runs it", |fleet| {
        let status = fleet.machines[0].status.as_ref();
        status
            .and_then(|status| status.running.as_ref())
            .is_some_and(|running| running.digest == fleet.machines[0].wanted)
    });
    // Written when the leader ends at the latest.
    platform.stop_leader();
    let after = json(&platform, &["show", "--machine", "core-1", "--at", "9999-01-01T00:00:00Z"]);
    assert_eq!((&after["known"], &after["revision"]["number"]), (&"proven".into(), &2.into()));
    let told = platform.good(&["show", "--machine", "core-1", "--at", "9999-01-01T00:00:00Z"]);
    assert!(told.contains("core-1 ran revision 2"), "{told}");
    let never = platform.refused(&["show", "--machine", "core-1", "--at", "2001-01-01T00:00:00Z"]);
    assert!(never.contains("nothing was published for core-1"), "{never}");
    assert!(platform.refused(&["show", "--at", "teatime"]).contains("is no time"));
}

#[test]
fn a_backup_restores_to_a_leader_that_serves_the_same_bytes() {
    let mut platform = platform();
    platform.start_leader();
    set(&platform, "one");
    platform.good(&["publish", "--yes"]);
    let bundles = [served(&platform, "core-1"), served(&platform, "web-1")];
    let home = platform.home.path().to_owned();
    let file = home.join("leader.backup");
    let said = platform.good(&["backup", file.to_str().unwrap()]);
    assert!(said.contains("revision 2") && said.contains("keep it like a key"), "{said}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(platform.refused(&["backup", file.to_str().unwrap()]).contains("is there already"));

    let run = |root: &Path, arguments: &[&str]| {
        Command::new(BINARY).args(arguments).arg("--root").arg(root).stdin(Stdio::null()).output().unwrap()
    };
    let root = platform.leader_root();
    let path = file.to_str().unwrap();
    let running = run(&root, &["restore", path, "--replace"]);
    assert_eq!(running.status.code(), Some(1));
    assert!(text(&running.stderr).contains("in use by another leader"), "{}", text(&running.stderr));
    platform.stop_leader();
    let occupied = run(&root, &["restore", path]);
    assert!(text(&occupied.stderr).contains("--replace"), "{}", text(&occupied.stderr));

    // Damaged anywhere: told, and nothing is there afterwards.
    let whole = fs::read(&file).unwrap();
    let damaged = home.join("damaged");
    for (index, place) in (0..whole.len()).step_by(whole.len() / 12).enumerate() {
        let mut bytes = whole.clone();
        if index % 2 == 0 {
            bytes[place] ^= 0x10;
        } else {
            bytes.truncate(place);
        }
        fs::write(&damaged, bytes).unwrap();
        let target = home.join(format!("damaged-{index}"));
        let output = run(&target, &["restore", damaged.to_str().unwrap()]);
        if index % 2 == 0 && output.status.success() {
            // A bit of the packing that no byte hangs on: what comes out has its checksums all the same.
            let files = |root: &Path| {
                let own = |name: &String| !name.starts_with("state/") && !name.starts_with("config-leader/log");
                tree(root).into_iter().filter(|(name, _)| own(name)).collect::<Vec<_>>()
            };
            assert_eq!(files(&target), files(&root), "at {place}");
            continue;
        }
        assert_eq!(output.status.code(), Some(1), "at {place}");
        assert!(text(&output.stderr).contains("damaged"), "at {place}: {}", text(&output.stderr));
        assert!(tree(&target).is_empty(), "{:?}", tree(&target).keys());
    }

    // In another place, and over what is there: the same bytes are served.
    let other = home.join("other");
    let output = run(&other, &["restore", path]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let left: Vec<String> = tree(&other).into_keys().filter(|name| !name.starts_with("state/leader.lock")).collect();
    let had: Vec<String> = tree(&root).into_keys().filter(|name| !name.starts_with("state/leader.lock")).collect();
    assert_eq!(left, had);
    set(&platform, "two");
    platform.good(&["publish", "--yes"]);
    let over = run(&root, &["restore", path, "--replace"]);
    assert!(text(&over.stdout).contains("what was there is in"), "{}{}", text(&over.stdout), text(&over.stderr));
    let aside = fs::read_dir(&root)
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("replaced-"));
    assert!(aside.unwrap().path().join("state/store.db").exists());
    platform.start_leader();
    assert!(platform.good(&["audit"]).contains("restore"));
    assert_eq!([served(&platform, "core-1"), served(&platform, "web-1")], bundles);
    assert!(fs::read_to_string(root.join("platform.yml")).unwrap().contains("V: one"));
    assert!(text(&tree(&root)["templates/core/app/conf/run.sh"]).starts_with("#!"));
}

#[test]
fn a_backup_without_keys_needs_them() {
    let platform = platform();
    platform.good(&["publish", "--yes"]);
    let home = platform.home.path();
    let (file, other) = (home.join("keyless"), home.join("other"));
    platform.good(&["backup", file.to_str().unwrap(), "--without-keys"]);
    let key = fs::read(platform.leader_root().join("state/store.key")).unwrap();
    let unpacked = zstd::decode_all(fs::File::open(&file).unwrap()).unwrap();
    for secret in [&key[..], platform.key_text("core-1").as_bytes()] {
        assert!(!unpacked.windows(secret.len()).any(|window| window == secret));
    }
    let run = |arguments: &[&str]| {
        Command::new(BINARY).arg("restore").arg(&file).args(arguments).arg("--root").arg(&other).output().unwrap()
    };
    assert!(text(&run(&[]).stderr).contains("--key FILE"));
    let wrong = home.join("wrong");
    fs::write(&wrong, [7; 32]).unwrap();
    assert!(text(&run(&["--key", wrong.to_str().unwrap()]).stderr).contains("is not its key"));
    let output = run(&["--key", platform.leader_root().join("state/store.key").to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("config-leader.json was not in the backup"));
}

#[test]
fn a_full_disk_stores_nothing_and_goes_on_when_there_is_room() {
    let mut platform = platform();
    let state = platform.leader_root().join("state");
    fs::create_dir_all(&state).unwrap();
    let small = crate::crashes::Mount::new(&state, "1500k");
    platform.start_leader();
    let before = served(&platform, "core-1");
    let ballast = state.join("ballast");
    let mut refused = None;
    for size in (0..1500).rev().step_by(20) {
        if fs::write(&ballast, vec![0; size << 10]).is_ok() {
            break;
        }
    }
    for round in 0..200 {
        // Nothing of it packs: it needs room.
        let noise: String = (0..60).map(|_| lockstep_edge::random::nonce()).collect();
        platform.template("core/app/conf/noise.conf", format!("{round} {noise}\n"));
        let output = platform.run(&["publish", "--yes"]);
        if !output.status.success() {
            refused = Some(text(&output.stderr));
            break;
        }
    }
    let refused = refused.expect("the disk gets full");
    assert!(refused.contains("is full") && refused.contains("df -h"), "{refused}");
    let last = platform.fleet().revision;
    let now = served(&platform, "core-1");
    assert!(last > 1 || now == before);
    assert_eq!(json(&platform, &["history", "--limit", "1"])["last"], last, "memory and disk agree");

    // With no byte left it still starts, once: what was kept free for that is used up.
    let now = served(&platform, "core-1");
    platform.kill_leader();
    let mut filler = fs::File::create(state.join("filler")).unwrap();
    while filler.write_all(&[7; 4096]).is_ok() {}
    platform.start_leader();
    assert!(platform.leader().log().contains("make room (df -h)"), "{}", platform.leader().log());
    assert!(!state.join("reserve").exists());
    assert_eq!(served(&platform, "core-1"), now);
    platform.kill_leader();
    while filler.write_all(&[7; 4096]).is_ok() {}
    let stays_down = platform.run(&["leader"]);
    assert!(!stays_down.status.success());
    assert!(text(&stays_down.stderr).contains("is full"), "{}", text(&stays_down.stderr));
    fs::remove_file(state.join("filler")).unwrap();
    fs::remove_file(&ballast).unwrap();
    platform.start_leader();
    assert!(state.join("reserve").exists());
    platform.good(&["publish", "--yes"]);
    assert_eq!(platform.fleet().revision, last + 1);
    platform.kill_leader();
    platform.start_leader();
    assert_eq!(platform.fleet().revision, last + 1);
    platform.kill_leader();
    drop(small);
}

#[test]
fn a_store_that_was_moved_away_is_not_published_into_nor_made_anew() {
    let mut platform = platform();
    platform.start_leader();
    let before = served(&platform, "core-1");
    let store = platform.leader_root().join("state/store.db");
    let away = platform.home.path().join("away.db");
    fs::rename(&store, &away).unwrap();
    set(&platform, "one");
    let refused = platform.refused(&["publish", "--yes"]);
    assert!(refused.contains("was moved, replaced or deleted") && refused.contains("lockstep restore"), "{refused}");
    assert_eq!(served(&platform, "core-1"), before, "what is published is served on");
    fs::rename(&away, &store).unwrap();
    platform.good(&["publish", "--yes"]);
    assert_eq!(platform.fleet().revision, 2);
    platform.kill_leader();
    fs::rename(&store, &away).unwrap();
    let refused = platform.refused(&["leader"]);
    assert!(refused.contains("store.db is missing") && refused.contains("lockstep restore"), "{refused}");
    fs::write(&store, b"").unwrap();
    let refused = platform.refused(&["leader"]);
    assert!(refused.contains("damaged"), "{refused}");
}

/// Runs a command and kills it after so many looks at whether it has ended; how many it took, if it ended by itself.
fn killed(platform: &Platform, arguments: &[&str], looks: u32) -> Option<u32> {
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--root").arg(platform.leader_root()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for look in 0..looks {
        if child.try_wait().unwrap().is_some() {
            return Some(look);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn publishing_that_is_killed_anywhere_leaves_the_old_or_the_new() {
    let platform = platform();
    platform.good(&["publish", "--yes"]);
    let mut last = 1;
    set(&platform, "whole");
    // What a whole one takes, which is then cut at a moment that is later every time.
    let mut looks = killed(&platform, &["publish", "--yes"], u32::MAX).unwrap();
    last += 1;
    for round in 0..40 {
        set(&platform, &format!("round-{round}"));
        let whole = killed(&platform, &["publish", "--yes"], looks / 40 * round);
        looks = looks.max(whole.unwrap_or(0));
        let state = platform.leader_root().join("state");
        let store = lockstep_leader::store::Store::open(&state).unwrap();
        let latest = store.latest().unwrap().unwrap();
        let value = String::from_utf8_lossy(&latest.source.files["platform.yml"].bytes).into_owned();
        if latest.number == last + 1 {
            assert!(value.contains(&format!("V: round-{round}\n")), "{value}");
            last += 1;
        }
        assert_eq!(latest.number, last);
        assert_eq!(store.heads(u64::MAX, None, usize::MAX).unwrap().len() as u64, last, "no gaps");
    }
    lockstep_leader::store::Store::verify(&platform.leader_root().join("state")).unwrap();
}

#[test]
fn a_restoration_that_is_killed_anywhere_never_looks_like_a_new_platform() {
    let platform = platform();
    platform.good(&["publish", "--yes"]);
    let file = platform.home.path().join("backup");
    platform.good(&["backup", file.to_str().unwrap()]);
    set(&platform, "newer");
    platform.good(&["publish", "--yes"]);
    let state = platform.leader_root().join("state");
    let newer = platform.home.path().join("newer");
    platform.good(&["backup", newer.to_str().unwrap()]);
    let mut looks = killed(&platform, &["restore", newer.to_str().unwrap(), "--replace"], u32::MAX).unwrap();
    let mut seen = [0; 3];
    for round in 0..40 {
        let whole = killed(&platform, &["restore", file.to_str().unwrap(), "--replace"], looks / 40 * round);
        looks = looks.max(whole.unwrap_or(0));
        match lockstep_leader::store::Store::open(&state) {
            Ok(store) => {
                let last = store.latest().unwrap().unwrap().number;
                seen[usize::try_from(last).unwrap() - 1] += 1;
            }
            Err(lockstep_leader::store::StoreError::Missing(_)) => seen[2] += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    assert!(seen[0] + seen[1] > 0, "{seen:?}");
    platform.good(&["restore", file.to_str().unwrap(), "--replace"]);
    assert_eq!(json(&platform, &["history"])["last"], 1);
}
