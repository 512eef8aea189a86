"""What a leader must refuse although it is rightly signed: roles, paths, queries, methods, bodies.

RFC 9457 for the answers, RFC 9110 section 15.5.6 for 405 and its Allow.
"""

from __future__ import annotations

import signature_cases
from leader_target import Leader
from runner import MAYBE_SIGNED, Case, Table, expect, expect_problem, expect_signed, shown
from wire import Request

STATUS_LIMIT = 1 << 20
WRONG = Table()

REFUSED = [
    ("another follower's role", "/conf/{other_role}", 403),
    ("a file of another follower's role", "/conf/{other_role}/pryv.yml", 403),
    ("a role there isn't", "/conf/no-such-role", 403),
    ("a role there isn't, with a path", "/conf/no-such-role/pryv.yml", 403),
    ("role __proto__", "/conf/__proto__", 403),
    ("role in other letters", "/conf/{ROLE}", 403),
    ("the view of another machine", "/conf/{role}?machine={other}", 403),
    ("the view of another machine by /conf", "/conf?machine={other}", 403),
    ("the view of a machine there isn't", "/conf/{role}?machine=no-such-machine", 403),
    ("a file there isn't", "/conf/{role}/no-such-file.txt", 404),
    ("a route there isn't", "/no-such-route", 404),
    ("wait=abc", "/conf?wait=abc", 400),
    ("wait=20m", "/conf?wait=20m", 400),
    ("wait=601s", "/conf?wait=601s", 400),
    ("wait negative", "/conf?wait=-1s", 400),
    ("wait empty", "/conf?wait=", 400),
    ("wait of twenty digits", "/conf?wait=99999999999999999999s", 400),
    ("wait=abc with a role", "/conf/{role}?wait=abc", 400),
]


def refused_case(name: str, target: str, status: int) -> Case:
    def run(leader: Leader) -> None:
        filled = target.format(role=leader.role, ROLE=leader.role.upper(), other_role=leader.other_role, other=leader.other.name)
        leader.refused(Request("GET", filled), status)

    return Case(f"{status}: {name}", run)


TRAVERSALS = [
    "/conf/{role}/..",
    "/conf/{role}/../{other_role}/pryv.yml",
    "/conf/{role}/../../../../../../etc/passwd",
    "/conf/{role}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/conf/{role}/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/conf/{role}/%2fetc%2fpasswd",
    "/conf/{role}//etc/passwd",
    "/conf/{role}/..%5c..%5cplatform.yml",
    "/conf/{role}/x%00/../../platform.yml",
    "/conf/{role}/%00",
    "/conf/{role}/%ff%fe",
    "/conf/..%2f..%2fplatform.yml",
    "/conf/%2e%2e/config-leader/conf/config-leader.json",
]


def traversal_case(pattern: str) -> Case:
    def run(leader: Leader) -> None:
        target = pattern.format(role=leader.role, other_role=leader.other_role)
        _, response = leader.ask(Request("GET", target))
        expect_problem(response, range(400, 500))
        expect(b"root:" not in response.body, "no file's content", shown(response))

    return Case(f"traversal: {pattern}", run)


METHODS = [("DELETE", "/conf"), ("PUT", "/conf/{role}"), ("POST", "/conf"), ("GET", "/status"), ("PATCH", "/conf/{role}/x"), ("DELETE", "/status")]


def method_case(method: str, target: str) -> Case:
    def run(leader: Leader) -> None:
        signed, response = leader.ask(Request(method, target.format(role=leader.role)))
        expect_problem(response, 405)
        expect(bool(response.header("allow")), "an Allow header", response.headers)
        expect_signed(response, signed, leader.me, MAYBE_SIGNED)

    return Case(f"405: {method} {target}", run)


BODIES = [
    ("not JSON", b"this is not JSON", (400,)),
    ("half an object", b'{"a": ', (400,)),
    ("not UTF-8", b'{"a": "\xff\xfe"}', (400,)),
    ("nested deeply in lists", b"[" * 100_000 + b"]" * 100_000, (400,)),
    ("nested deeply in objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, (400,)),
    ("a list", b"[]", (400, 422)),
    ("a string", b'"report"', (400, 422)),
    ("null", b"null", (400, 422)),
]


def body_case(name: str, body: bytes, statuses: tuple[int, ...]) -> Case:
    def run(leader: Leader) -> None:
        leader.refused(leader.status().plain.changed(body=body), statuses)

    return Case(f"status: body {name}", run)


@WRONG.case("status: no body")
def empty_report(leader: Leader) -> None:
    leader.refused(leader.status().plain.changed(body=b""), (400, 411, 415, 422), MAYBE_SIGNED)


@WRONG.case("413: status of 1 MiB and a byte")
def large_report(leader: Leader) -> None:
    leader.refused(large(leader), 413, MAYBE_SIGNED)


@WRONG.case("413: the same in chunks")
def large_report_in_chunks(leader: Leader) -> None:
    leader.refused(large(leader).adding(("Transfer-Encoding", "chunked")), 413, MAYBE_SIGNED)


@WRONG.case("413: a length of 100 GB, and nothing of it")
def promised_report(leader: Leader) -> None:
    leader.refused(large(leader).changed(body=b"{}").adding(("Content-Length", "100000000000")), 413, MAYBE_SIGNED)


def large(leader: Leader) -> Request:
    body = b'"' + b"a" * (STATUS_LIMIT - 1) + b'"'
    return leader.status().plain.changed(body=body)


@WRONG.case("admin: a follower's signature opens nothing")
def admin_routes(leader: Leader) -> None:
    for target in ("/admin/settings", "/admin/followers", "/admin/audit", "/admin/revisions"):
        leader.refused(Request("GET", target), (401, 403, 404), MAYBE_SIGNED)


@WRONG.case("join: a token there isn't")
def join_without_token(leader: Leader) -> None:
    body = b'{"token": "no-such-token", "name": "intruder", "role": "core"}'
    request = Request("POST", "/join", body, [("Content-Type", "application/json")])
    expect_problem(leader.server.send(request), (400, 401, 403, 404, 422, 429))


@WRONG.case("unsigned: a route there isn't")
def unsigned_unknown(leader: Leader) -> None:
    expect_problem(leader.server.send(Request("GET", "/no-such-route")), (401, 404))


UNSIGNED_ROUTES = [("GET", "/conf/{role}"), ("GET", "/conf/{role}/pryv.yml"), ("GET", "/conf/no-such-role")]


def unsigned_case(method: str, target: str) -> Case:
    def run(leader: Leader) -> None:
        response = leader.server.send(Request(method, target.format(role=leader.role)))
        expect_problem(response, 401, (signature_cases.UNSIGNED,))

    return Case(f"unsigned: {method} {target}", run)


def wrong_cases() -> list[Case]:
    return [
        *(unsigned_case(*row) for row in UNSIGNED_ROUTES),
        *(refused_case(*row) for row in REFUSED),
        *(traversal_case(pattern) for pattern in TRAVERSALS),
        *(method_case(*row) for row in METHODS),
        *(body_case(*row) for row in BODIES),
        *WRONG,
    ]
