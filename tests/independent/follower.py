#!/usr/bin/env python3
"""Conformance of a follower to the protocol page, between a fake leader and a real disk.

    follower.py --bin target/debug/lockstep [--deadline SECONDS] [--only SUBSTRING] [--verbose]

Starts `BIN follower --root DIR` in a temporary folder against the leader of
`fake_leader.py`, and looks at what lands on disk: good bundles do, with their bytes and modes;
evil ones (`evil_bundles.py`) change nothing, are reported, and leave a follower that takes the
next good one. POST /notify gets the signature tables of `signature_cases.py`.

RFC 9421 section 2.4 for the signatures of answers, RFC 9530, RFC 9457 for errors. Nothing
here waits for a time to pass: each wait is for an event at the fake leader, up to --deadline.
"""

from __future__ import annotations

import argparse
import secrets
import sys

from fake_leader import FakeLeader
from follower_bundles import TROUBLE, evil_cases, good_cases
from follower_notify import notify_cases
from follower_process import FollowerProcess
from follower_setting import ROLE, Setting
from protocol import Signer
from runner import Case, expect, run_cases

LIMIT_SECONDS = 2


def start(setting: Setting) -> None:
    """Up to the second bundle on disk: the first comes by itself, and both are told apart later."""
    files = setting.marker()
    setting.offer(files)
    setting.leader.start()
    setting.process.write_root()
    setting.process.start(setting.patience)
    setting.expect_on_disk(files)
    setting.apply(setting.marker())


def stops(setting: Setting) -> None:
    setting.expect_well()
    expect(setting.process.stop(setting.patience) is not None, f"an end within {setting.patience:g} s", "none")


def all_cases() -> list[Case]:
    return [
        Case("start: ready, and the first bundle lands", start, needed=True),
        *good_cases(),
        *evil_cases(),
        *notify_cases(LIMIT_SECONDS),
        *TROUBLE,
        Case("end: stops when asked", stops),
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Conformance of a follower.")
    parser.add_argument("--bin", required=True)
    parser.add_argument("--deadline", type=float, default=30.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def set_up(given: argparse.Namespace) -> Setting:
    me = Signer("core-1", secrets.token_bytes(32))
    leader = FakeLeader({me.name: (me, ROLE)})
    limits = {"LOCKSTEP_LIMITS__HEADER_SECONDS": str(LIMIT_SECONDS), "LOCKSTEP_LIMITS__BODY_SECONDS": str(LIMIT_SECONDS)}
    process = FollowerProcess(given.bin, leader.url, me, limits)
    return Setting(leader, process, me, given.deadline, given.verbose)


def main() -> int:
    given = arguments()
    setting = set_up(given)
    try:
        failed = run_cases(all_cases(), setting, given.only, given.verbose)
    finally:
        setting.process.stop(setting.patience)
        setting.process.remove()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
