#!/usr/bin/env python3
"""Checks this suite against itself, without the program under test.

    selftest.py [--only SUBSTRING] [--verbose]

The vector of RFC 9421 appendix B.2.5, examples of RFC 8941 and RFC 9530 (appendix D), and
the leader's table run against the fake leader: where both read the page wrongly in the
same way this says nothing, but each mistake of only one of them shows.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys

import leader
from leader_target import Leader
from fake_leader import FakeLeader, Offer, file_entry, make_bundle
from fake_server import Limits
from protocol import Signer, base_of, content_digest, make_signature
from runner import Case, Table, expect, run_cases
from structured import Unparsable, parse_dictionary, write_member
from wire import Request, Server

VECTOR_KEY = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
VECTOR_MAC = "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
LIMIT_SECONDS = 1.0
NO_ZSTD_IN_PYTHON = "coding: zstd, the digest over the encoded bytes"

TABLE = Table()


@TABLE.case("RFC 9421 B.2.5: signing with hmac-sha256")
def vector(_) -> None:
    request = Request("POST", "/foo?param=Value&Pet=dog", headers=[
        ("Host", "example.com"),
        ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("Content-Type", "application/json"),
    ])
    made = make_signature(
        request,
        Signer("test-shared-secret", base64.b64decode(VECTOR_KEY)),
        label="sig-b25",
        components=['"date"', '"@authority"', '"content-type"'],
        params={"created": "1618884473", "keyid": '"test-shared-secret"'},
    )
    expect(made.value == f":{VECTOR_MAC}:", VECTOR_MAC, made.value)
    read = parse_dictionary(f"{made.label}={made.input}")[made.label]
    mac = Signer("", base64.b64decode(VECTOR_KEY)).mac(base_of(read, request))
    expect(base64.b64encode(mac).decode() == VECTOR_MAC, "the same base read back", base_of(read, request))


@TABLE.case("RFC 9530 D.1: sha-256 of the example")
def digest_example(_) -> None:
    wanted = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    came = content_digest(b'{"hello": "world"}\n')
    expect(came == wanted, wanted, came)


ROUND_TRIPS = [
    ('a=(  "x"   "y";key="k" );p=1;q="s \\" \\\\ t";r', 'a', '("x" "y";key="k");p=1;q="s \\" \\\\ t";r'),
    ("a=1, b=2, a=:AAEC:;x=?0", "a", ":AAEC:;x=?0"),
    ("a;b=tok/en:1", "a", "?1;b=tok/en:1"),
    ("a=-999999999999999", "a", "-999999999999999"),
    ("a=1;x=1;x=2", "a", "1;x=2"),
]


@TABLE.case("RFC 8941: read and written again")
def round_trips(_) -> None:
    for text, key, wanted in ROUND_TRIPS:
        came = write_member(parse_dictionary(text)[key])
        expect(came == wanted, wanted, came)


UNPARSABLE = ["a=", "a=(", 'a=("x"', "a=1,", "A=1", "a=1234567890123456", 'a="\x7f"', 'a="x', "a=:*:", "a=1 b=2", "a=(1,2)", "=1", "a=?2", 'a=("x""y")']


@TABLE.case("RFC 8941: refused")
def refusals(_) -> None:
    for text in UNPARSABLE:
        try:
            read = parse_dictionary(text)
        except Unparsable:
            continue
        expect(False, f"{text!r} refused", read)


def leader_under_test() -> Leader:
    me, other = Signer("core-1", os.urandom(32)), Signer("web-1", os.urandom(32))
    fake = FakeLeader({me.name: (me, "core"), other.name: (other, "web")}, Limits(LIMIT_SECONDS, LIMIT_SECONDS))
    files = [
        file_entry("a/conf/app.json", '{"é": 1}', "0600", owner="0:0"),
        file_entry("a/conf/raw bytes.bin", bytes(range(256)), "0755"),
        file_entry("pryv.yml", "services: {}\n"),
    ]
    fake.offer(Offer.of("core", make_bundle(me.name, "core", 3, files), gzip=True), me.name)
    fake.offer(Offer.of("web", make_bundle(other.name, "web", 3, files[2:])), other.name)
    fake.start()
    return Leader(Server.at(fake.url), me, "core", other, "web", b'{"revision": 3}', (200,))


def main() -> int:
    parser = argparse.ArgumentParser(description="The suite against itself.")
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    mirrored = [case for case in leader.all_cases(LIMIT_SECONDS, LIMIT_SECONDS) if case.name != NO_ZSTD_IN_PYTHON]
    cases = [*TABLE, *(Case(f"fake leader: {case.name}", case.run) for case in mirrored)]
    return 1 if run_cases(cases, leader_under_test(), given.only, given.verbose) else 0


if __name__ == "__main__":
    sys.exit(main())
