#!/usr/bin/env python3
"""Conformance of a running leader to the protocol page, from the outside.

    leader.py --url http://127.0.0.1:PORT --follower NAME --role ROLE --key KEY
              --other-follower NAME2 --other-role ROLE2 --other-key KEY2
              [--header-seconds N] [--body-seconds N] [--status-body FILE]
              [--authority FILE] [--only SUBSTRING] [--verbose]

The leader needs both followers, with different roles and a bundle each, and the limits
LOCKSTEP_LIMITS__HEADER_SECONDS and LOCKSTEP_LIMITS__BODY_SECONDS as told here (without
them the slow cases are left out). --status-body is a report the leader accepts; without
it a signed refusal of the report's shape counts as right. With --authority the leader has
to speak TLS 1.3 with a certificate of the one in that file.

RFC 9421, RFC 9530 and RFC 8941 for signatures and digests are in `signature_cases.py`, the
routes in `leader_right.py` and `leader_wrong.py` (RFC 9110, RFC 9457), bounds in `bound_cases.py`.
"""

from __future__ import annotations

import argparse
import sys

import bound_cases
import leader_right
import leader_wrong
import signature_cases
from leader_target import Leader
from protocol import Signer
from runner import Case, expect, expect_json, run_cases
from wire import Server


def slow_cases(header_seconds: float | None, body_seconds: float | None) -> list[Case]:
    cases = []
    if header_seconds is not None:
        cases.append(Case("slow: headers", lambda leader: bound_cases.slow_headers(leader.conf(), header_seconds)))
    if body_seconds is not None:
        cases.append(Case("slow: body", lambda leader: bound_cases.slow_body(leader.status(), body_seconds)))
    return cases


def still_well(leader: Leader) -> None:
    expect(expect_json(leader.get("/conf")) == leader.bundle, "the bundle of the start", "another")


def all_cases(header_seconds: float | None = None, body_seconds: float | None = None) -> list[Case]:
    conf, status = Leader.conf, Leader.status
    return [
        *leader_right.right_cases(),
        *signature_cases.right_cases("GET /conf", conf),
        *signature_cases.right_cases("POST /status", status),
        *signature_cases.sequence_cases("GET /conf", conf),
        *signature_cases.wrong_cases("GET /conf", conf, signature_cases.WRONG_ANYWHERE),
        *signature_cases.wrong_cases("POST /status", status, signature_cases.WRONG_WITH_BODY),
        *leader_wrong.wrong_cases(),
        *bound_cases.bound_cases("GET /conf", conf),
        *slow_cases(header_seconds, body_seconds),
        Case("after all that: a bundle as before", still_well),
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Conformance of a running leader.")
    for name in ("url", "follower", "role", "key", "other-follower", "other-role", "other-key"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--header-seconds", type=float)
    parser.add_argument("--body-seconds", type=float)
    parser.add_argument("--status-body", type=argparse.FileType("rb"))
    parser.add_argument("--authority", metavar="FILE")
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def leader_of(given: argparse.Namespace) -> Leader:
    report = given.status_body.read() if given.status_body else b'{"revision": 1}'
    return Leader(
        server=Server.at(given.url, authority_file=given.authority),
        me=Signer.from_text(given.follower, given.key),
        role=given.role,
        other=Signer.from_text(given.other_follower, given.other_key),
        other_role=given.other_role,
        report=report,
        report_statuses=(200, 202, 204) if given.status_body else (200, 202, 204, 400, 422),
    )


def main() -> int:
    given = arguments()
    cases = all_cases(given.header_seconds, given.body_seconds)
    return 1 if run_cases(cases, leader_of(given), given.only, given.verbose) else 0


if __name__ == "__main__":
    sys.exit(main())
