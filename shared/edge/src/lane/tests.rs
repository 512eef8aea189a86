//! Whatever comes, both ways answer alike, to the byte.

use super::*;
use crate::server::ByHyper;
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use lockstep_shared::Fields;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio::sync::Notify;

/// What both ways answer with: what they understood.
fn understood(path: &str, query: Option<&str>, fields: &impl Fields) -> Reply {
    let accepted: Vec<_> = fields.lines("accept").map(String::from_utf8_lossy).collect();
    let text = format!("{path} {query:?} {accepted:?} {:?}\n", fields.first("host"));
    let repeat = if path == "/conf/large" { 5000 } else { 1 };
    let mut reply = Response::new(Full::new(Bytes::from(text.repeat(repeat))));
    reply.headers_mut().insert("x-first", HeaderValue::from_static("1"));
    reply.headers_mut().append("x-twice", HeaderValue::from_static("a"));
    reply.headers_mut().append("x-twice", HeaderValue::from_static("b"));
    reply.headers_mut().insert("etag", HeaderValue::from_static("\"tag\""));
    *reply.status_mut() = match path {
        "/conf/same" => StatusCode::NOT_MODIFIED,
        "/conf/mine" => StatusCode::IM_USED,
        "/conf/none" => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    if path == "/conf/same" {
        *reply.body_mut() = Full::default();
    }
    reply
}

async fn handle(request: Request<Incoming>, _: IpAddr) -> Reply {
    let (head, body) = request.into_parts();
    let limits = Limits { body_bytes: 100, ..Limits::default() };
    let body = server::read_body(body, &limits).await.map_err(|problem| problem.status);
    let mut reply = understood(head.uri.path(), head.uri.query(), &head.headers);
    reply
        .headers_mut()
        .insert("x-body", HeaderValue::try_from(format!("{body:?}").escape_debug().to_string()).unwrap());
    if head.method == "GET" && body == Ok(Bytes::new()) {
        reply.headers_mut().remove("x-body");
    }
    reply
}

/// Counts what it answers. `/conf/held` waits for `news`.
#[derive(Clone, Default)]
struct Counting {
    answered: Arc<AtomicUsize>,
    news: Arc<Notify>,
    dropped: Arc<Notify>,
}

/// Says that what it is part of was dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Lane for Counting {
    fn takes(&self, path: &str) -> bool {
        path.starts_with("/conf")
    }

    fn answer(&self, head: &Head<'_>, _: IpAddr) -> Outcome {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let reply = understood(head.path, head.query, &head.fields);
        if head.path != "/conf/held" {
            return Outcome::Now(reply);
        }
        let (news, dropped) = (self.news.clone(), Dropped(self.dropped.clone()));
        Outcome::Later(Box::pin(async move {
            news.notified().await;
            drop(dropped);
            reply
        }))
    }
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn start(connections: impl Connections, limits: Limits, room: usize) -> (DuplexStream, watch::Sender<bool>) {
    let (client, server) = duplex(room);
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(connections.serve(server, PEER, Arc::new(limits), stopping));
    (client, stop)
}

/// What comes back for these pieces, sent one after the other; `Date` taken out.
async fn answers(connections: impl Connections, pieces: &[&[u8]], limits: Limits, room: usize) -> String {
    let (client, stop) = start(connections, limits, room);
    let (mut answers, mut requests) = tokio::io::split(client);
    let sending = async {
        for piece in pieces {
            // An answer may come before all was sent, and end the connection.
            let _ = requests.write_all(piece).await;
            // The one thread there is: the other end has read it after that.
            tokio::task::yield_now().await;
        }
        let _ = requests.shutdown().await;
    };
    let mut answered = Vec::new();
    let ((), read) = tokio::join!(sending, answers.read_to_end(&mut answered));
    read.unwrap();
    drop(stop);
    let text = String::from_utf8_lossy(&answered);
    let undated = text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    undated.collect()
}

async fn of_both(pieces: &[&[u8]], limits: &Limits, room: usize) -> (String, String, usize) {
    let lane = Counting::default();
    let over_hyper = answers(ByHyper(handle), pieces, limits.clone(), room).await;
    let by_lane = ByLane { lane: lane.clone(), handler: handle };
    let by_lane = answers(by_lane, pieces, limits.clone(), room).await;
    (over_hyper, by_lane, lane.answered.load(Ordering::Relaxed))
}

/// Requests, and how many of them are answered the short way.
fn cases() -> Vec<(String, usize)> {
    let get = |rest: &str| format!("GET /conf/a HTTP/1.1\r\nhost: h\r\n{rest}\r\n");
    let many = |count: usize| (0..count).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    let long = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    let post = "POST /conf HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc";
    let mut cases = vec![
        (get(""), 1),
        (get("Accept: a\r\naccept:b\r\nACCEPT:  c  \r\n"), 1),
        (get("accept: \u{e9}\r\n"), 1),
        ("GET /conf/same HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 1),
        ("GET /conf/mine?wait=60s&x=%20 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 1),
        ("GET /conf/none? HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 1),
        ("GET /conf?a?b HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 1),
        ("GET /conf/large HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 1),
        // Ends of lines as hyper takes them.
        ("GET /conf HTTP/1.1\nhost: h\naccept: a\n\n".to_owned(), 1),
        ("\r\nGET /conf HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(), 1),
        // Several at once, and with others between them.
        (get("") + &get("accept: b\r\n") + &get(""), 3),
        (get("") + post + &get(""), 1),
        (post.to_owned() + &get(""), 0),
        (get("") + "GET /other HTTP/1.1\r\nhost: h\r\n\r\n" + &get(""), 1),
        (get("") + "nonsense\r\n\r\n" + &get(""), 1),
        (get("") + "GET /conf", 1),
        // Within the limits, and just past them.
        (get(&many(63)), 1),
        (get(&many(64)), 0),
        (get(&many(300)), 0),
        (get(&long(1024 - 20)), 1),
        (get(&long(1024)), 0),
        (get(&long(70_000)), 0),
        (format!("GET /conf/{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(70_000)), 0),
    ];
    let cold = [
        // Said otherwise than in the plainest way, or not at all well.
        "GET http://h/conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET //conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf#x HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf/\u{e9} HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf/a\"b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET  /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf HTTP/1.0\r\nhost: h\r\n\r\n",
        "GET /conf HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n",
        "GET /conf HTTP/1.2\r\nhost: h\r\n\r\n",
        "GET /conf\r\n\r\n",
        "get /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "HEAD /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "PUT /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "CONNECT /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nhost: i\r\n\r\n",
        "GET /conf HTTP/1.1\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\naccept: a\r\n b\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\naccept : a\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\naccept\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\naccept: a\0b\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\raccept: a\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\n: a\r\n\r\n",
        // A body, or what could make somebody see one.
        "GET /conf HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nContent-Length: 3\r\n\r\nabc",
        "GET /conf HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "GET /conf HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\nabc",
        "GET /conf HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\ntransfer-encoding: x\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
        "GET /conf HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\r\n",
        // The connection is meant.
        "GET /conf HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\nGET /conf HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nConnection: Keep-Alive\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n\r\n",
        "GET /conf HTTP/1.1\r\nhost: h\r\nte: trailers\r\n\r\n",
        "",
        "\r\n\r\n",
        "GET",
        "\u{16}\u{3}\u{1}\u{2}",
    ];
    cases.extend(cold.map(|case| (case.to_owned(), 0)));
    cases
}

fn limits() -> Limits {
    Limits { header_bytes: 1024, ..Limits::default() }
}

#[tokio::test]
async fn both_ways_answer_alike() {
    for (case, short) in cases() {
        let shown = case.chars().take(200).collect::<String>();
        let (hyper, lane, answered) = of_both(&[case.as_bytes()], &limits(), 1 << 20).await;
        assert_eq!(hyper, lane, "{shown:?}");
        assert_eq!(answered, short, "{shown:?}");
    }
}

#[tokio::test]
async fn in_whatever_pieces_it_comes() {
    for (case, short) in cases().into_iter().filter(|(case, _)| case.len() < 400) {
        let bytes = case.as_bytes();
        for at in 1..bytes.len() {
            let (one, other) = bytes.split_at(at);
            let (hyper, lane, answered) = of_both(&[one, other], &limits(), 1 << 20).await;
            assert_eq!((&hyper, answered), (&lane, short), "{case:?}, split at {at}");
        }
        let each: Vec<&[u8]> = bytes.chunks(1).collect();
        let (hyper, lane, answered) = of_both(&each, &limits(), 1 << 20).await;
        assert_eq!((hyper, answered), (lane, short), "{case:?}, byte by byte");
    }
}

#[tokio::test]
async fn whoever_reads_slowly_gets_all_of_it() {
    let case = "GET /conf/large HTTP/1.1\r\nhost: h\r\n\r\n";
    let (whole, ..) = of_both(&[case.as_bytes()], &limits(), 1 << 20).await;
    let lane = Counting::default();
    let (mut client, _stop) = start(ByLane { lane: lane.clone(), handler: handle }, limits(), 100);
    for _ in 0..2 {
        client.write_all(case.as_bytes()).await.unwrap();
    }
    for _ in 0..2 {
        let mut answer = String::new();
        let dated = some(&mut client, "\r\n\r\n").await;
        answer.extend(dated.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")));
        let mut rest = vec![0; whole.len() - answer.len()];
        client.read_exact(&mut rest).await.unwrap();
        answer.push_str(std::str::from_utf8(&rest).unwrap());
        assert!(answer == whole);
    }
    assert_eq!(lane.answered.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_header_that_stops_is_told_so_and_silence_is_not() {
    let limits = Limits { header_seconds: 0, ..limits() };
    for case in ["GET /conf HTTP/1.1\r\nhos", ""] {
        let hyper = silent(ByHyper(handle), case, limits.clone()).await;
        let lane = silent(ByLane { lane: Counting::default(), handler: handle }, case, limits.clone()).await;
        assert_eq!(hyper, lane);
        assert_eq!(lane.starts_with("HTTP/1.1 408 "), !case.is_empty(), "{lane}");
    }
}

/// What is told to somebody who says this, and nothing more. It is there before the other end looks.
async fn silent(connections: impl Connections, said: &str, limits: Limits) -> String {
    let (mut client, _stop) = start(connections, limits, 1 << 16);
    client.write_all(said.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

const HELD: &[u8] = b"GET /conf/held HTTP/1.1\r\nhost: h\r\n\r\n";

async fn hold(lane: &Counting, client: &mut DuplexStream) {
    client.write_all(HELD).await.unwrap();
    while lane.answered.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
}

async fn some(client: &mut DuplexStream, of: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(of) {
        let mut bytes = [0; 1024];
        let length = client.read(&mut bytes).await.unwrap();
        assert_ne!(length, 0, "{answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    answer
}

#[tokio::test]
async fn a_held_request_ends_with_whoever_asked() {
    let lane = Counting::default();
    let (mut client, _stop) = start(ByLane { lane: lane.clone(), handler: handle }, limits(), 1 << 16);
    hold(&lane, &mut client).await;
    drop(client);
    lane.dropped.notified().await;
}

#[tokio::test]
async fn what_follows_a_held_request_waits_for_its_answer() {
    let lane = Counting::default();
    let (mut client, _stop) = start(ByLane { lane: lane.clone(), handler: handle }, limits(), 1 << 16);
    hold(&lane, &mut client).await;
    // More than one read takes, so that some of it is left unread meanwhile.
    let next = format!("GET /conf/next HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(500)).repeat(30);
    let post = b"POST /other HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nz";
    client.write_all(next.as_bytes()).await.unwrap();
    client.write_all(post).await.unwrap();
    lane.news.notify_one();
    let answers = some(&mut client, "x-body").await;
    assert!(answers.contains("/conf/held None"), "{answers}");
    assert_eq!(answers.matches("/conf/next None").count(), 30, "{answers}");
    assert_eq!(lane.answered.load(Ordering::Relaxed), 31);
}

#[tokio::test]
async fn a_stop_ends_what_idles_at_once_and_what_is_held_with_its_answer() {
    let lane = Counting::default();
    let (mut idle, stop) = start(ByLane { lane: lane.clone(), handler: handle }, limits(), 1 << 16);
    idle.write_all(b"GET /conf HTTP/1.1\r\nhost: h\r\n\r\nGET /co").await.unwrap();
    some(&mut idle, "\n\r\n").await;
    stop.send_replace(true);
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    assert!(!rest.contains("HTTP/1.1"), "{rest}");

    let lane = Counting::default();
    let (mut held, stop) = start(ByLane { lane: lane.clone(), handler: handle }, limits(), 1 << 16);
    hold(&lane, &mut held).await;
    stop.send_replace(true);
    tokio::task::yield_now().await;
    lane.news.notify_one();
    let mut answer = String::new();
    held.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.contains("/conf/held None"), "{answer}");
}
