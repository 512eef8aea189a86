"""Bundles and the disk: good ones land, evil ones don't, and troubles pass.

RFC 9421 section 2.4 for the signatures of answers; `evil_bundles.py` holds the evil ones.
"""

from __future__ import annotations

import os

from evil_bundles import EVIL, HARMLESS, Evil
from fake_leader import Exchange, file_entry
from follower_process import FollowerProcess, changes
from follower_setting import ROLE, Setting
from protocol import default_params, make_signature, sign
from runner import Case, Table, expect, expect_status
from wire import Request, Response

SKEW = 4000

GOOD = Table()


@GOOD.case("good: every kind of file lands with bytes, mode and owner")
def kinds_of_files(setting: Setting) -> None:
    owner = f"{os.getuid()}:{os.getgid()}"
    setting.apply([
        *setting.marker(),
        file_entry("web/conf/plain.conf", "plain\n"),
        file_entry("web/conf/secret.json", '{"a": "é"}\n', "0600"),
        file_entry("web/bin/run.sh", "#!/bin/sh\nexit 0\n", "0755"),
        file_entry("web/conf/readonly.txt", "ro\n", "0444"),
        file_entry("web/conf/raw.bin", bytes(range(256)) * 40, "0640"),
        file_entry("web/conf/owned.txt", "owned\n", owner=owner),
        file_entry("web/conf/empty.txt", ""),
        file_entry("web/conf/crlf.txt", "a\r\nb\r\n"),
        file_entry("web/a/very/deep/folder/of/eight/parts/file.txt", "deep\n"),
        file_entry("web/conf/ein Name mit ümlaut.txt", "x\n"),
        file_entry("web/conf/large.txt", "0123456789abcdef" * 20_000),
    ])


@GOOD.case("good: reported by POST /status")
def good_is_reported(setting: Setting) -> None:
    mark = setting.leader.mark()
    setting.apply(setting.marker())
    event = setting.wait_for("status", mark, "POST /status after a good bundle")
    setting.show("a good bundle", event.value[1])


@GOOD.case("good: afterwards asked for with If-None-Match and wait")
def polls(setting: Setting) -> None:
    mark = setting.leader.mark()
    offer = setting.apply(setting.marker())

    def is_poll(request: Request) -> bool:
        return request.header("if-none-match") == offer.etag and "wait=" in request.query

    setting.wait_for("get", mark, f"GET /conf?wait=... with If-None-Match: {offer.etag}", is_poll)


@GOOD.case("good: comes by long polling, without a notification")
def long_polling(setting: Setting) -> None:
    polls(setting)
    files = setting.marker()
    setting.offer(files)
    setting.expect_on_disk(files)


@GOOD.case("good: a file that left the bundle leaves the disk, a person's stays")
def removal(setting: Setting) -> None:
    extra = file_entry("web/conf/leaving.txt", "for now\n")
    setting.apply([*setting.marker(), extra])
    mine = setting.process.data / "web" / "conf" / "mine.txt"
    mine.write_text("a person's\n")
    setting.apply(setting.marker())
    gone = setting.process.data / extra["path"]
    expect(setting.leader.wait_until(lambda: not gone.exists(), setting.patience), "the file gone", "still there")
    expect(mine.read_text() == "a person's\n", "a person's file as it was", "another")
    mine.unlink()


@GOOD.case("good: a change of mode alone")
def mode_alone(setting: Setting) -> None:
    for mode in ("0644", "0600", "0755"):
        setting.apply([file_entry("web/conf/marker.txt", "one content\n", mode)])


@GOOD.case("good: sent as gzip to who accepts it")
def sent_as_gzip(setting: Setting) -> None:
    setting.apply(setting.marker(), gzip=True)


@GOOD.case("good: notified with services")
def notified_with_services(setting: Setting) -> None:
    files = setting.marker()
    setting.offer(files)
    request = sign(setting.notification(services=["web"]), setting.me)
    expect_status(setting.server.send(request), 202)
    setting.expect_on_disk(files)


def signed_as(label: str, extra: tuple[str, ...], backwards: bool):
    """The answer signed rightly in another of the allowed ways."""

    def spoil(response: Response, exchange: Exchange) -> Response:
        components = ['"@status"', '"content-digest"', f'"signature";req;key="{exchange.label}"', *extra]
        params = default_params(exchange.signer)
        bare = response.without("Signature", "Signature-Input")
        made = make_signature(
            bare, exchange.signer, label=label, request=exchange.request, params=params,
            components=components[::-1] if backwards else components,
            order=list(params)[::-1] if backwards else None,
        )
        return bare.adding(*made.headers)

    return spoil


ANSWERS = [
    ("under another label", signed_as("leader-9", (), False)),
    ("in another order", signed_as("sig1", (), True)),
    ("over more than needed", signed_as("sig1", ('"content-type"', '"etag"'), False)),
]


def answer_case(name: str, spoil) -> Case:
    return Case(f"good: an answer signed {name}", lambda setting: setting.apply(setting.marker(), spoil=spoil))


# Evil


def whole(process: FollowerProcess) -> dict:
    return process.snapshot()


def outside(process: FollowerProcess) -> dict:
    return {name: entry for name, entry in process.snapshot().items() if not name.startswith("root/pryv")}


def check_evil(setting: Setting, evil: Evil, view=whole) -> None:
    """Refused whole, reported, survived; and the next good bundle is taken.

    The disk is prepared until the good bundle is there: without the link or folder in
    the way the evil one would be a good one.
    """
    setting.apply(setting.marker())
    evil.prepare(setting.process)
    before = setting.stable(view)
    try:
        attempt(setting, evil)
        setting.expect_unchanged(before, view)
    finally:
        setting.recover()
        setting.settled()
        evil.undo(setting.process)


def attempt(setting: Setting, evil: Evil) -> None:
    """Offer it, see it taken, see a report come, and see that attempt over."""
    mark = setting.leader.mark()
    setting.leader.offer(evil.offer(setting.process, ROLE, setting.next_revision()), setting.me.name)
    setting.notify()
    served = setting.wait_for("served", mark, "the follower asking for the bundle", lambda name: name == evil.name)
    event = setting.wait_for("status", served.number + 1, "POST /status after the bundle")
    setting.show(evil.name, event.value[1])
    setting.settled()
    setting.expect_well()


def evil_cases() -> list[Case]:
    return [
        *(Case(f"evil: {evil.name}", lambda setting, evil=evil: check_evil(setting, evil)) for evil in EVIL),
        *(Case(evil.name, lambda setting, evil=evil: check_evil(setting, evil, outside)) for evil in HARMLESS),
    ]


# Clocks and troubles

TROUBLE = Table()


@TROUBLE.case("signatures: every request of the follower was right so far")
def rightly_signed(setting: Setting) -> None:
    refused = [event.value for event in setting.leader.events if event.kind == "refused"]
    expect(not refused, "none refused", refused[:5])


@TROUBLE.case("trouble: a leader that answers 500 for a while")
def broken_leader(setting: Setting) -> None:
    setting.apply(setting.marker())
    before = setting.process.snapshot()
    setting.leader.broken = True
    try:
        setting.settled()
        setting.settled()
        setting.expect_well()
    finally:
        setting.leader.broken = False
    expect(not changes(before, setting.process.snapshot()), "nothing changed on disk", "changes")
    setting.recover()


@TROUBLE.case("clock: an unsigned clock-skew is not believed")
def forged_skew(setting: Setting) -> None:
    mark = setting.leader.mark()
    setting.leader.skew_is_signed = False
    setting.leader.clock_offset = SKEW
    try:
        for _ in range(2):
            after = setting.leader.mark()
            setting.offer(setting.marker())
            setting.notify()
            setting.wait_for("refused", after, "a request refused for its time")
    finally:
        setting.leader.clock_offset = 0
        setting.leader.skew_is_signed = True
    believed = [event.value for event in setting.leader.events[mark:] if event.kind == "get"]
    expect(not believed, "no request signed with the forged time", believed)
    setting.recover()


@TROUBLE.case("clock: a signed clock-skew is followed, there and back")
def signed_skew(setting: Setting) -> None:
    setting.leader.clock_offset = SKEW
    try:
        setting.recover()
    finally:
        setting.leader.clock_offset = 0
    setting.recover()


def good_cases() -> list[Case]:
    return [*GOOD, *(answer_case(*row) for row in ANSWERS)]
