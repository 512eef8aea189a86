"""POST /notify and the follower's local routes (RFC 9421, RFC 9457, RFC 9110 section 15.5.6)."""

from __future__ import annotations

import bound_cases
import signature_cases
from follower_setting import Setting
from protocol import now, sign
from runner import MAYBE_SIGNED, Case, Table, expect, expect_problem, expect_signed, expect_status
from wire import Request

NOTIFY_LIMIT = 1 << 20

NOTIFY = Table()


@NOTIFY.case("local: /healthz, /metrics and /status answer")
def local_routes(setting: Setting) -> None:
    for target in ("/healthz", "/metrics", "/status"):
        expect_status(setting.server.send(Request("GET", target)), 200)


@NOTIFY.case("local: /status holds no key")
def no_key_shown(setting: Setting) -> None:
    key = setting.process.configuration()["leader"]["key"].encode()
    for target in ("/healthz", "/metrics", "/status"):
        expect(key not in setting.server.send(Request("GET", target)).body, "no key", target)
    expect(not any(key.decode() in line for line in setting.process.log), "no key in the log", "the key")


@NOTIFY.case("notify: clock-skew tells the follower's time")
def skew_time(setting: Setting) -> None:
    endpoint = setting.notify_endpoint()
    body = expect_problem(setting.server.send(endpoint.signed(created="1")), 401, ("clock-skew",))
    expect(abs(body["server_time"] - now()) < signature_cases.MARGIN, "the time", body["server_time"])


@NOTIFY.case("notify: a body in chunks")
def chunked(setting: Setting) -> None:
    signature_cases.chunked_body(setting.notify_endpoint())


@NOTIFY.case("notify: the response to one is not that to another")
def own_response(setting: Setting) -> None:
    endpoint = setting.notify_endpoint()
    one, two = endpoint.signed(), endpoint.signed()
    answers = [setting.server.send(one), setting.server.send(two)]
    expect_signed(answers[0], one, setting.me)
    expect_signed(answers[1], two, setting.me)
    expect(answers[0].header("signature") != answers[1].header("signature"), "two signatures", "one")


@NOTIFY.case("notify: twenty at once are all taken, and it still follows")
def many_notifications(setting: Setting) -> None:
    files = setting.marker()
    setting.offer(files)
    for _ in range(20):
        setting.notify()
    setting.expect_on_disk(files)


BODIES = [
    ("not JSON", b"this is not JSON", (400,)),
    ("half an object", b'{"revision": ', (400,)),
    ("not UTF-8", b'{"a": "\xff\xfe"}', (400,)),
    ("nested deeply", b"[" * 100_000 + b"]" * 100_000, (400,)),
    ("a list", b"[]", (400, 422)),
    ("revision a string", b'{"revision": "one"}', (400, 422)),
    ("revision negative", b'{"revision": -1}', (400, 422)),
    ("services a string", b'{"revision": 1, "services": "web"}', (400, 422)),
    ("no revision", b"{}", (400, 422)),
]


def refuse(setting: Setting, request: Request, statuses, signed: str = "signed") -> None:
    sent = sign(request, setting.me)
    response = setting.server.send(sent)
    expect_problem(response, statuses)
    expect_signed(response, sent, setting.me, signed)


def body_case(name: str, body: bytes, statuses) -> Case:
    return Case(f"notify: body {name}", lambda setting: refuse(setting, setting.notification().changed(body=body), statuses))


@NOTIFY.case("notify: no body")
def no_body(setting: Setting) -> None:
    refuse(setting, setting.notification().changed(body=b""), (400, 411, 415, 422), MAYBE_SIGNED)


@NOTIFY.case("notify: a body of more than 1 MiB")
def large_body(setting: Setting) -> None:
    refuse(setting, setting.notification().changed(body=b'"' + b"a" * NOTIFY_LIMIT + b'"'), 413, MAYBE_SIGNED)


@NOTIFY.case("notify: a length of 100 GB, and nothing of it")
def promised_body(setting: Setting) -> None:
    refuse(setting, setting.notification().adding(("Content-Length", "100000000000")), 413, MAYBE_SIGNED)


@NOTIFY.case("notify: GET is not allowed")
def wrong_method(setting: Setting) -> None:
    response = setting.server.send(sign(Request("GET", "/notify"), setting.me))
    expect_problem(response, 405)
    expect(bool(response.header("allow")), "an Allow header", response.headers)


@NOTIFY.case("notify: a route there isn't")
def unknown_route(setting: Setting) -> None:
    response = setting.server.send(sign(Request("GET", "/no-such-route"), setting.me))
    expect_problem(response, 404)


@NOTIFY.case("notify: nothing was applied by all these")
def unmoved(setting: Setting) -> None:
    setting.expect_well()
    setting.recover()


def notify_cases(limit_seconds: float) -> list[Case]:
    endpoint = Setting.notify_endpoint
    return [
        *signature_cases.right_cases("POST /notify", endpoint),
        *signature_cases.sequence_cases("POST /notify", endpoint),
        *signature_cases.wrong_cases("POST /notify", endpoint, signature_cases.WRONG_ANYWHERE),
        *signature_cases.wrong_cases("POST /notify", endpoint, signature_cases.WRONG_WITH_BODY),
        *(body_case(*row) for row in BODIES),
        *bound_cases.bound_cases("POST /notify", endpoint),
        Case("slow: headers", lambda setting: bound_cases.slow_headers(endpoint(setting), limit_seconds)),
        Case("slow: body", lambda setting: bound_cases.slow_body(endpoint(setting), limit_seconds)),
        *NOTIFY,
    ]
