//! Certificates over real sockets; rotation as values.

use super::issue::Ca;
use super::state::{Said, Stage, State};
use lockstep_edge::client::CallError;
use lockstep_edge::tls::{Acceptor, Certificate, Identity, Joining, Pins, Requested, identity, placeholder};
use lockstep_edge::{Client, Limits, Trust, server};
use lockstep_shared::api;
use lockstep_shared::{Key, Name};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const NOW: i64 = 1_795_000_000;
const YEAR: i64 = 365 * 86_400;

fn now() -> i64 {
    lockstep_edge::clock::now()
}

fn identity_of(ca: &Ca, hosts: &[&str]) -> Identity {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let issued = ca.for_leader(&hosts, now(), 3600).unwrap();
    Identity::from_pem(&issued.chain, &issued.key).unwrap()
}

/// A server that counts the requests that reach it, and answers `unsigned`.
struct Server {
    url: String,
    acceptor: Option<Arc<Acceptor>>,
    requests: Arc<AtomicUsize>,
    _stop: watch::Sender<bool>,
}

async fn serve(identity: Option<Identity>) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = identity.map(|identity| Arc::new(Acceptor::new(&identity).unwrap()));
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let (stop, stopping) = watch::channel(false);
    let requests = Arc::new(AtomicUsize::new(0));
    let (counted, tls) = (requests.clone(), acceptor.clone());
    tokio::spawn(server::serve(listener, tls, Arc::new(Limits::default()), stopping, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()) }
    }));
    Server { url, acceptor, requests, _stop: stop }
}

fn key() -> Key {
    Key::parse(&"A".repeat(43)).unwrap()
}

/// Why a call to `url` fails; a server that is believed answers without a signature.
async fn call(url: &str, pins: &Arc<Pins>, identity: &str) -> CallError {
    let trust = Trust::Pinned { pins: pins.clone(), identity: identity.to_owned() };
    let client = Client::trusting(&[url.to_owned()], "core-1", key(), 1 << 16, &trust).unwrap();
    client.send(http::Method::GET, "/conf", &[], None, Duration::from_secs(30)).await.unwrap_err()
}

fn is_believed(error: &CallError) -> bool {
    matches!(error, CallError::Untrusted { .. })
}

#[tokio::test]
async fn only_the_pinned_authority_and_the_right_identity_are_believed() {
    let (ours, theirs) = (Ca::make(now()).unwrap(), Ca::make(now()).unwrap());
    let pins = Arc::new(Pins::new("ca.pem", vec![ours.read().unwrap()]));
    let (server, middle) = (serve(Some(identity_of(&ours, &[]))).await, serve(Some(identity_of(&theirs, &[]))).await);
    let (plain, own) = (serve(None).await, serve(Some(placeholder("leader").unwrap())).await);
    let said = call(&server.url, &pins, identity::LEADER).await;
    assert!(is_believed(&said), "{said}");
    let cases = [
        (middle.url.clone(), identity::LEADER, "another authority"),
        (own.url.clone(), identity::LEADER, "another authority"),
        (server.url.clone(), "core-1.follower.lockstep.internal", "another machine of this platform"),
        (plain.url.replace("http:", "https:"), identity::LEADER, "doesn't speak TLS"),
        (server.url.replace("https:", "http:"), identity::LEADER, "use https://"),
    ];
    for (url, identity, wanted) in cases {
        let error = call(&url, &pins, identity).await.to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let reached = [&middle, &own, &plain].map(|server| server.requests.load(Ordering::Relaxed));
    assert_eq!((reached, server.requests.load(Ordering::Relaxed)), ([0, 0, 0], 1));
}

#[tokio::test]
async fn certificates_and_pins_are_replaced_while_they_are_used() {
    let (first, second) = (Ca::make(now()).unwrap(), Ca::make(now()).unwrap());
    let server = serve(Some(identity_of(&first, &[]))).await;
    let pins = Arc::new(Pins::new("ca.pem", vec![first.read().unwrap()]));
    let trust = Trust::Pinned { pins: pins.clone(), identity: identity::LEADER.to_owned() };
    let client = Client::trusting(std::slice::from_ref(&server.url), "core-1", key(), 1 << 16, &trust).unwrap();
    let ask = || client.send(http::Method::GET, "/conf", &[], None, Duration::from_secs(30));
    assert!(is_believed(&ask().await.unwrap_err()));
    server.acceptor.as_ref().unwrap().replace(&identity_of(&second, &[]));
    // The connection that is open goes on; a new one is proven anew.
    assert!(is_believed(&ask().await.unwrap_err()));
    assert!(!is_believed(&call(&server.url, &pins, identity::LEADER).await));
    pins.replace(vec![first.read().unwrap(), second.read().unwrap()]);
    assert!(is_believed(&call(&server.url, &pins, identity::LEADER).await));
}

#[tokio::test]
async fn certificates_out_of_their_time_are_refused_with_both_times() {
    let ca = Ca::make(now() - 2 * YEAR).unwrap();
    let pins = Arc::new(Pins::new("ca.pem", vec![ca.read().unwrap()]));
    for (from, wanted) in [(now() - YEAR, "ended at"), (now() + YEAR, "begins at")] {
        let issued = ca.for_leader(&[], from, 3600).unwrap();
        let server = serve(Some(Identity::from_pem(&issued.chain, &issued.key).unwrap())).await;
        let error = call(&server.url, &pins, identity::LEADER).await.to_string();
        assert!(error.contains(wanted) && error.contains("timedatectl"), "{error}");
        assert_eq!(server.requests.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn who_joins_goes_by_the_hash_of_the_authority() {
    let (ours, theirs) = (Ca::make(now()).unwrap(), Ca::make(now()).unwrap());
    // A stranger may send our public certificate along, and still has no certificate of it.
    let stolen = theirs.for_leader(&[], now(), 3600).unwrap();
    let forged = Identity::from_pem(&(stolen.chain + &ours.certificate), &stolen.key).unwrap();
    let wrong = ours.for_follower(&Requested::new("x").unwrap().csr, &Name::new("x").unwrap(), now(), 60);
    assert!(wrong.is_ok());
    for (identity, good) in [(identity_of(&ours, &[]), true), (identity_of(&theirs, &[]), false), (forged, false)] {
        let server = serve(Some(identity)).await;
        let joining = Joining::new(ours.read().unwrap().fingerprint);
        let tls = joining.client().unwrap();
        let client = lockstep_edge::client::builder().tls_backend_preconfigured(tls).build().unwrap();
        let answer = client.get(&server.url).send().await;
        assert_eq!(answer.is_ok(), good, "{answer:?}");
        let found = joining.authority().map(|authority| authority.pem());
        assert_eq!(found, good.then(|| ours.certificate.clone()));
        assert_eq!(server.requests.load(Ordering::Relaxed), usize::from(good));
    }
}

#[test]
fn a_follower_gets_its_own_name_whatever_its_request_says() {
    let ca = Ca::make(NOW).unwrap();
    let name = Name::new("core-1").unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["core-2.follower.lockstep.internal".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let issued = ca.for_follower(&csr, &name, NOW, 90 * 86_400).unwrap();
    let identity = Identity::from_pem(&issued.chain, &key.serialize_pem()).unwrap();
    let certificate = &identity.certificate;
    assert_eq!(certificate.names, ["core-1.follower.lockstep.internal"]);
    assert!(!certificate.is_authority);
    assert_eq!((certificate.begins, certificate.ends), (NOW - 86_400, NOW + 90 * 86_400));
    let chain = Certificate::read_all(&issued.chain).unwrap();
    assert_eq!((chain[1].fingerprint, &chain[0].issuer), (ca.read().unwrap().fingerprint, &chain[1].subject));
    // Another key's signature shows nothing.
    let mut lines: Vec<String> = csr.lines().map(str::to_owned).collect();
    let last = lines.len() - 2;
    let flipped = if lines[last].starts_with('A') { "B" } else { "A" };
    lines[last].replace_range(..1, flipped);
    for bad in ["", "x", &lines.join("\n"), &ca.certificate, &"a".repeat(100_000)] {
        let error = ca.for_follower(bad, &name, NOW, 60).err().unwrap().to_string();
        assert!(error.contains("PKCS#10"), "{error}");
    }
}

#[test]
fn a_rotation_waits_for_everybody_at_each_stage() {
    let names: Vec<Name> = ["a", "b"].iter().map(|name| Name::new(*name).unwrap()).collect();
    let state = State::new(NOW).unwrap();
    assert_eq!((state.stage(), state.step(&[], NOW).is_none()), (Stage::Settled, true));
    let telling = state.rotate(NOW + 1).unwrap();
    assert!(telling.rotate(NOW + 1).is_err());
    let prints = |state: &State| state.authorities().unwrap().iter().map(|read| read.fingerprint).collect::<Vec<_>>();
    let (old, both) = (prints(&state), prints(&telling));
    assert_eq!((telling.stage(), both.len(), both[0]), (Stage::Telling, 2, old[0]));
    let said = |authorities: &[_], issuer| Said {
        trust: api::Trust { authorities: authorities.to_vec(), issuer, ..api::Trust::default() },
        since: NOW,
    };
    let mut all: BTreeMap<Name, Said> = BTreeMap::new();
    assert_eq!(telling.missing(&names, &all).unwrap(), names);
    all.insert(names[0].clone(), said(&both, Some(both[0])));
    all.insert(names[1].clone(), said(&old, None));
    let missing = telling.missing(&names, &all).unwrap();
    assert_eq!(missing, names[1..]);
    assert!(telling.step(&missing, NOW + 2).is_none());
    all.insert(names[1].clone(), said(&both, None));
    let missing = telling.missing(&names, &all).unwrap();
    let renewing = telling.step(&missing, NOW + 2).unwrap();
    // The first still shows a certificate of the old one; the second shows none.
    assert_eq!((renewing.stage(), prints(&renewing)), (Stage::Renewing, vec![both[1], both[0]]));
    assert_eq!(renewing.missing(&names, &all).unwrap(), names[..1]);
    all.insert(names[0].clone(), said(&both, Some(both[1])));
    let settled = renewing.step(&renewing.missing(&names, &all).unwrap(), NOW + 3).unwrap();
    assert_eq!((settled.stage(), prints(&settled)), (Stage::Settled, vec![both[1]]));
    // Without the one that is away, it goes on to the end; and it is not waited for again.
    let forced = telling.finish(&names[1..], NOW + 4).unwrap();
    all.insert(names[1].clone(), said(&old, None));
    assert_eq!(forced.missing(&names, &all).unwrap(), Vec::<Name>::new());
}
