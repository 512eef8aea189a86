//! Rendering + JSON + SHA-256 of a role, templates warm: what publishing costs a machine, and
//! the body that it asks for then.
//! `cargo bench -p lockstep-leader`; one line for each size.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use lockstep_leader::memo::Memo;
use lockstep_leader::published::{Coding, Published};
use lockstep_leader::release::Release;
use lockstep_leader::render::Machine;
use lockstep_leader::secrets::{Drafts, Secrets};
use lockstep_leader::source::{Source, SourceFile};
use lockstep_leader::store::Revision;
use lockstep_shared::Name;
use std::time::Instant;

fn main() {
    for (files, bytes, pairs) in [(70, 592_000, 16), (49, 165_000, 16), (70, 592_000, 5), (49, 165_000, 5)] {
        let mut times: Vec<f64> = Vec::new();
        let source = source(files, bytes / files, pairs);
        let machine = Machine {
            name: Name::new("m-1").unwrap(),
            role: Name::new("role").unwrap(),
            addresses: Vec::new(),
            url: None,
        };
        let machines = [machine];
        let mut memo = Memo::default();
        let release = Release::compile(&source, &machines, &mut memo);
        for _ in 0..60 {
            let start = Instant::now();
            let bundles = {
                // Nothing remembered but the compiled templates.
                let mut secrets = Secrets::new([], None, Drafts::Ignored);
                release.render(&machines, &machines, &mut secrets, 1, &mut Memo::default()).unwrap()
            };
            let revision = Revision {
                number: 1,
                created: 0,
                author: String::new(),
                message: String::new(),
                release: String::new(),
                rolled_back_to: None,
                source: Source::default(),
                bundles,
            };
            let published = Published::new(revision);
            let body = &published.served[&machines[0].name].json().get(Coding::Identity).bytes;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            assert!(body.len() > bytes);
        }
        times.sort_by(f64::total_cmp);
        let dense = if pairs < 16 { ", three times as many expressions" } else { "" };
        println!("render {files} files, {} KB{dense}: p50 {:.2} ms, p99 {:.2} ms", bytes / 1000, times[30], times[59]);
    }
}

/// Files of about `size` bytes that look like configuration, with three expressions after every so many pairs of
/// lines: after sixteen it is as dense as a real platform's templates, where 90 KB in 49 files have 150.
fn source(files: usize, size: usize, pairs: usize) -> Source {
    let mut source = Source::default();
    let settings =
        "release: 1\ngroups:\n  G:\n    settings:\n      DOMAIN: {default: example.com}\n      PORT: {default: 9000}\n";
    let mut put = |name: String, text: &str| source.files.insert(name, SourceFile::new(text.as_bytes(), false));
    put("platform.yml".to_owned(), "settings: {}\n");
    put("templates/settings.yml".to_owned(), settings);
    for index in 0..files {
        let mut text = String::new();
        let mut line = 0;
        while text.len() < size {
            line += 1;
            text += &format!(
                "# line {line} of the configuration of \"something\"\nvalue_{line} = some text that stays as it is\n"
            );
            if line % pairs == 0 {
                text += "server = https://{{DOMAIN}}:{{PORT}}/{{#if DOMAIN}}path{{/if}}\n";
            }
        }
        put(format!("templates/role/component{}/conf/file{index}.conf.hbs", index % 7), &text);
    }
    source
}
