//! Ten thousand followers that long-poll one leader over HTTP: what each costs
//! it in memory, how soon all are told of a publication, and how soon all are
//! back after it was started anew; in the clear, and over TLS. `LOCKSTEP_BIN=...
//! cargo bench -p lockstep-leader --bench polls [-- FOLLOWERS]`; one line each,
//! with what it may be at most.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use lockstep_edge::backoff::Backoff;
use lockstep_edge::tls::{Pins, authorities, identity};
use lockstep_edge::{clock, listen, random};
use lockstep_shared::Key;
use lockstep_shared::signature::sign_request;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

/// A leader in a process of its own.
struct Leader {
    process: Child,
    address: SocketAddr,
}

/// What all followers have seen, and the last instant at which that changed.
#[derive(Default)]
struct Seen {
    held: AtomicUsize,
    told: AtomicUsize,
    back: AtomicUsize,
    forgotten: AtomicUsize,
    news: Notify,
}

fn main() {
    listen::raise_open_files();
    let followers = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let binary = std::env::var_os("LOCKSTEP_BIN").map(PathBuf::from).expect("LOCKSTEP_BIN names the program");
    for tls in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let keys = lay_out(folder.path(), followers, tls);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(measure(&binary, folder.path(), keys, tls));
    }
}

async fn measure(binary: &Path, root: &Path, keys: Vec<Key>, tls: bool) {
    let count = keys.len();
    let mut leader = Leader::start(binary, root);
    let empty = leader.memory();
    let seen = Arc::new(Seen::default());
    let way = Arc::new(Way { address: leader.address, tls: tls.then(|| pinned(binary, root)) });
    for (number, key) in keys.into_iter().enumerate() {
        let (seen, way) = (seen.clone(), way.clone());
        tokio::spawn(async move { follow(&way, &format!("m-{number}"), &key, &seen).await });
    }
    seen.until(&seen.held, count).await;
    let each = leader.memory().saturating_sub(empty) / 1024 / count;
    let (over, most, slowest, back) = if tls { (" over TLS", 28, 800, 20_000) } else { ("", 18, 400, 2000) };
    row(&format!("{count} followers hold a poll{over}: leader's memory for each, KB"), each, most);

    let mut spread = Vec::new();
    for number in 1..=5 {
        seen.told.store(0, Ordering::SeqCst);
        fs::write(root.join("platform.yml"), format!("settings: {{V: v{number}}}\n")).unwrap();
        let publishing =
            Command::new(binary).args(["publish", "--yes", "--root"]).arg(root).stdout(Stdio::null()).spawn();
        seen.until(&seen.told, 1).await;
        let first = Instant::now();
        seen.until(&seen.told, count).await;
        spread.push(first.elapsed());
        assert!(publishing.unwrap().wait().unwrap().success());
        seen.until(&seen.held, count).await;
    }
    spread.sort();
    row("  all told of a publication, from the first to the last, ms", millis(spread[2]), slowest);
    row("  the same, the slowest of five", millis(spread[4]), slowest);
    row("  forgotten", seen.forgotten.load(Ordering::SeqCst), 0);

    seen.back.store(0, Ordering::SeqCst);
    leader.process.kill().unwrap();
    leader.process.wait().unwrap();
    let leader = Leader::start(binary, root);
    let ready = Instant::now();
    seen.until(&seen.back, count).await;
    row("  all back after it was killed and started anew, ms", millis(ready.elapsed()), back);
    drop(leader);
}

/// How a follower reaches the leader.
struct Way {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

/// A connection, in the clear or not.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Way {
    async fn connect(&self) -> std::io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = rustls::pki_types::ServerName::try_from(identity::LEADER).unwrap();
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

fn pinned(binary: &Path, root: &Path) -> TlsConnector {
    let shown = Command::new(binary).args(["ca", "show", "--pem", "--root"]).arg(root).output().unwrap();
    let authorities = authorities(&String::from_utf8(shown.stdout).unwrap()).unwrap();
    let config = Arc::new(Pins::new("the leader", authorities)).client(identity::LEADER).unwrap();
    TlsConnector::from(Arc::new(config))
}

impl Seen {
    fn add(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, Ordering::SeqCst);
        self.news.notify_waiters();
    }

    /// Waits until a counter says `count`.
    async fn until(&self, counter: &AtomicUsize, count: usize) {
        let all = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if counter.load(Ordering::SeqCst) >= count {
                    return;
                }
                news.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(3), all).await;
        assert!(waited.is_ok(), "only {} of {count}", counter.load(Ordering::SeqCst));
    }
}

impl Leader {
    fn start(binary: &Path, root: &Path) -> Self {
        let log = fs::File::create(root.join("leader.log")).unwrap();
        let mut command = Command::new(binary);
        command.arg("leader").arg("--root").arg(root).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().split_once("://").expect("the ready line").1.parse().unwrap();
        Self { process, address }
    }

    /// Its own, in bytes: what it lets go of its program meanwhile is nobody's poll.
    fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One follower, as far as the leader sees it.
async fn follow(way: &Way, name: &str, key: &Key, seen: &Seen) {
    let (mut known, mut backoff) = (String::new(), Backoff::for_contact());
    loop {
        let _ = connected(way, name, key, seen, &mut known, &mut backoff).await;
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// As long as one connection lasts.
async fn connected(
    way: &Way,
    name: &str,
    key: &Key,
    seen: &Seen,
    known: &mut String,
    backoff: &mut Backoff,
) -> std::io::Result<()> {
    let mut stream = way.connect().await?;
    let (status, etag) = ask(&mut *stream, name, key, None, known).await?;
    backoff.reset();
    seen.add(&seen.back);
    if status == 200 {
        *known = etag;
    }
    loop {
        seen.held.fetch_add(1, Ordering::SeqCst);
        seen.news.notify_waiters();
        let asked = Instant::now();
        let answer = ask(&mut *stream, name, key, Some("wait=60s"), known).await;
        seen.held.fetch_sub(1, Ordering::SeqCst);
        match answer? {
            (200 | 226, etag) => {
                *known = etag;
                seen.add(&seen.told);
            }
            // Held to its end: nothing was published, or this one was forgotten.
            _ if asked.elapsed() > Duration::from_secs(55) => seen.add(&seen.forgotten),
            _ => {}
        }
    }
}

/// One signed request; the answer's status and tag.
async fn ask(
    stream: &mut (impl Wire + ?Sized),
    name: &str,
    key: &Key,
    query: Option<&str>,
    known: &str,
) -> std::io::Result<(u16, String)> {
    let signed = sign_request(key, name, ("GET", "/conf", query), None, clock::now(), &random::nonce());
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    let request = format!(
        "GET /conf{mark}{query} HTTP/1.1\r\nhost: leader\r\nif-none-match: {known}\r\na-im: lockstep\r\nsignature-input: {}\r\nsignature: {}\r\n\r\n",
        signed.input, signed.signature
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    let head = loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let length = field("content-length:").parse().unwrap_or(0);
    while answer.len() < head + length {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((status, field("etag:").to_owned()))
}

/// A role with one small file, and so many machines.
fn lay_out(root: &Path, followers: usize, tls: bool) -> Vec<Key> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::create_dir_all(root.join("templates/role/app/conf")).unwrap();
    fs::create_dir_all(root.join("config-leader/conf")).unwrap();
    fs::write(root.join("templates/settings.yml"), "release: 1.0.0\ngroups: {G: {settings: {V: {default: v}}}}\n")
        .unwrap();
    fs::write(root.join("templates/role/app/conf/x.conf.hbs"), "value {{V}}\n".repeat(40)).unwrap();
    fs::write(root.join("platform.yml"), "settings: {}\n").unwrap();
    let texts: Vec<String> = (0..followers).map(|_| format!("{}{}", random::nonce(), random::nonce())).collect();
    let texts: Vec<String> = texts.iter().map(|text| format!("{}A", &text[..42])).collect();
    let entries: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(number, key)| format!("\"m-{number}\": {{\"role\": \"role\", \"key\": \"{key}\"}}"))
        .collect();
    let config =
        format!("{{\"http\": {{\"port\": {port}, \"tls\": {tls}}}, \"followers\": {{{}}}}}", entries.join(",\n"));
    let path = root.join("config-leader/conf/config-leader.json");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, config.as_bytes()).unwrap();
    texts.iter().map(|text| Key::parse(text).unwrap()).collect()
}

fn millis(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap()
}

fn row(what: &str, value: usize, most: usize) {
    println!("polls {what}: {value} (at most {most})");
}
