//! What ten thousand revisions cost that each change one file of 10 KB, of a role with 70 files and 600 KB: the
//! store's size, and how long looking and starting take. `cargo bench -p lockstep-leader --bench history -- [REVISIONS]`;
//! one line for each, with what it may be at most.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

use lockstep_leader::difference;
use lockstep_leader::history::History;
use lockstep_leader::mask::Mask;
use lockstep_leader::secrets::Used;
use lockstep_leader::source::{Source, SourceFile};
use lockstep_leader::store::{Revision, Store};
use lockstep_shared::{Bundle, File, Name, SafePath};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const FILES: usize = 70;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut store = Store::open(folder.path()).unwrap();
    let mut revision = first();
    for number in 1..=number {
        change(&mut revision, number);
        store.insert(&revision, &Used::default()).unwrap();
    }
    let each = start.elapsed().as_secs_f64() * 1000.0 / number as f64;
    drop(store);
    println!("history store of {number} revisions, MB: {:.1} (at most 200)", size(folder.path()) as f64 / 1e6);
    println!("history storing one, ms: {each:.2} (at most 500)");
    let store = Store::open(folder.path()).unwrap();
    time("listing the last 20, ms", 50, || assert_eq!(store.heads(u64::MAX, None, 20).unwrap().len(), 20));
    time("listing all, ms", 1000, || assert_eq!(store.heads(u64::MAX, None, usize::MAX).unwrap().len() as u64, number));
    let middle = number / 2;
    time("diff of two neighbours, ms", 50, || {
        let holdings = |number| store.holdings(&store.head(number).unwrap().unwrap()).unwrap();
        let (old, new) = store.differing(&holdings(middle), &holdings(middle + 1)).unwrap();
        let changes = difference::between(&old, &new, &Mask::new([]));
        assert_eq!((changes.len(), changes[0].files.len()), (1, 1));
    });
    drop(store);
    blame();
    time("opening and loading the last, ms", 1000, || {
        let read = Store::open(folder.path()).unwrap().latest().unwrap().unwrap();
        assert_eq!(read.number, number);
    });
}

/// A setting that changed once, long ago, in a file of 400 lines that changes every time.
fn blame() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let mut revision = first();
    for number in 1..=1000 {
        let mut text = format!("settings:\n  OLD: {}\n  NEW: {number}\n", number / 500);
        for line in 0..400 {
            text += &format!("  SETTING_{line}: [one, \"two\", {line}]\n");
        }
        revision.number = number;
        revision.source.files.insert("platform.yml".to_owned(), SourceFile::new(text.as_bytes(), false));
        store.insert(&revision, &Used::default()).unwrap();
    }
    let history = History::open(folder.path()).unwrap();
    time("blame over 1000 platform files of 400 lines, ms", 1000, || {
        assert_eq!(history.blame("OLD", None, 10).unwrap().changes.len(), 3);
    });
}

/// The middle of some runs.
fn time(what: &str, most: u32, run: impl Fn()) {
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..11 {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("history {what}: {:.2} (at most {most})", times[5]);
}

fn size(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// A file of 8.6 KB that looks like configuration, no line twice.
fn text(file: usize, change: u64) -> String {
    let mut text = format!("# of file {file}, changed {change}\n");
    let mut number = file as u64 * 7919;
    while text.len() < 10_000 - FILES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += &format!("option_{} = \"value {:x} of the configuration\"\n", text.len(), number >> 32);
    }
    text
}

fn path(file: usize) -> String {
    format!("component{}/conf/file{file}.conf", file % 7)
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn first() -> Revision {
    let mut source = Source::default();
    source.files.insert("platform.yml".to_owned(), SourceFile::new(&b"settings: {}\n"[..], false));
    let mut files = Vec::new();
    for file in 0..FILES {
        let text = text(file, 0);
        source.files.insert(format!("templates/role/{}.hbs", path(file)), SourceFile::new(text.as_bytes(), false));
        files.push(File::plain(SafePath::new(path(file)).unwrap(), text.as_bytes()));
    }
    let bundle = Bundle::new(name("role"), name("m-1"), None, files).unwrap();
    Revision {
        number: 0,
        created: 1_700_000_000,
        author: "bench".to_owned(),
        message: "one file changes".to_owned(),
        release: "1".to_owned(),
        rolled_back_to: None,
        source,
        bundles: [(name("m-1"), Arc::new(bundle))].into(),
    }
}

/// A template and what it renders to change: both are new content.
fn change(revision: &mut Revision, number: u64) {
    let file = usize::try_from(number).unwrap() % FILES;
    let template = text(file, number);
    let rendered = template.replace("of the configuration", "of this configuration");
    revision.number = number;
    let template = SourceFile::new(template.as_bytes(), false);
    revision.source.files.insert(format!("templates/role/{}.hbs", path(file)), template);
    let bundle = &revision.bundles[&name("m-1")];
    let mut files = bundle.files.clone();
    let changed = path(file);
    for file in files.iter_mut().filter(|file| file.path.as_str() == changed) {
        *file = File::plain(file.path.clone(), rendered.as_bytes());
    }
    let bundle = Bundle::new(name("role"), name("m-1"), None, files).unwrap();
    revision.bundles.insert(name("m-1"), Arc::new(bundle));
}
