//! What authentication costs a request: verifying it, and signing the answer.
//! `cargo bench -p lockstep-shared`; one line each.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use http::HeaderMap;
use lockstep_shared::signature::{Cover, Parts, Window, sign_request, sign_response, verify_request};
use lockstep_shared::{Key, Sha256};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 200_000;

fn main() {
    let (key, decoy) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
    let signed =
        sign_request(&key, "core-1", ("GET", "/conf/core", None), None, 1_800_000_000, "abcdefghijklmnopqrstuv");
    let mut headers = HeaderMap::new();
    headers.insert("signature-input", signed.input.parse().unwrap());
    headers.insert("signature", signed.signature.parse().unwrap());
    let parts =
        Parts { method: "GET", path: "/conf/core", query: None, authority: None, headers: &headers, has_body: false };
    let verify = || {
        let window = Window { skew_seconds: 300 };
        verify_request(
            black_box(&parts),
            |name| (name == "core-1").then_some(((), &key)),
            &decoy,
            1_800_000_000,
            window,
        )
        .unwrap()
    };
    let verified = verify();
    let digest = Sha256::of(b"content").content_digest();
    time("verify a request", || drop(black_box(verify())));
    time("sign an answer", || {
        let cover = Cover::ContentDigest(&digest);
        drop(black_box(sign_response(&key, "core-1", 200, cover, &verified.signature, 1_800_000_000)));
    });
    time("HMAC-SHA256 of 300 bytes", || {
        black_box(key.mac(black_box(&[7; 300])));
    });
}

fn time(what: &str, mut work: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(ROUNDS));
    }
    println!("{what}: {:.2} us", best * 1e6);
}
