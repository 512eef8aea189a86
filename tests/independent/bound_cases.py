"""Bounds of the HTTP layer, the same at both ends: 431, 408, 400 (RFC 9110, RFC 9112, RFC 6585)."""

from __future__ import annotations

import time
from typing import Callable

from protocol import sign
from runner import Case, expect, expect_problem, expect_status
from signature_cases import Endpoint, case_of
from wire import Connection, ConnectionEnded, Response


def check_bound(response: Response, status: int) -> None:
    """An answer by the HTTP parser itself may have no body; if it has one, it is a problem."""
    expect_status(response, status)
    if response.body:
        expect_problem(response, status)


def long_header(e: Endpoint) -> None:
    check_bound(e.server.send(e.signed().adding(("X-Long", "a" * (1 << 20)))), 431)


def many_headers(e: Endpoint) -> None:
    check_bound(e.server.send(e.signed().adding(*[(f"X-Many-{n}", "1") for n in range(1000)])), 431)


def two_lengths(e: Endpoint) -> None:
    length = len(e.plain.body)
    request = e.signed().adding(("Content-Length", str(length)), ("Content-Length", str(length + 1)))
    response = closed_or_answer(lambda: e.server.send(request))
    if response is not None:
        check_bound(response, 400)


def garbage_line(e: Endpoint) -> None:
    response = closed_or_answer(lambda: e.server.send_bytes(b"\x16\x03\x01 what is this\r\n\r\n"))
    if response is not None:
        check_bound(response, 400)


def closed_or_answer(send: Callable[[], Response]) -> Response | None:
    try:
        return send()
    except ConnectionEnded:
        return None


def slow_headers(e: Endpoint, seconds: float) -> None:
    """A header line grows all the time, so only a limit on the whole head helps."""
    framed = e.signed().framed(e.server.authority)
    with Connection(e.server) as connection:
        connection.write(framed.head()[:-2] + b"X-Slow: ")
        trickle(connection, b"a", seconds)
        response = closed_or_answer(lambda: connection.read("GET"))
    if response is not None:
        check_bound(response, 408)


def slow_body(e: Endpoint, seconds: float) -> None:
    body = b'{"slow": "' + b"a" * 2000 + b'"}'
    framed = sign(e.plain.changed(body=body), e.me).framed(e.server.authority)
    with Connection(e.server) as connection:
        connection.write(framed.head() + body[:10])
        trickle(connection, b"a", seconds)
        response = connection.read("POST")
    expect_problem(response, 408)


def trickle(connection: Connection, byte: bytes, seconds: float) -> None:
    """A byte every quarter of a second until the peer has had enough, and well past its limit."""
    until = time.monotonic() + seconds * 2 + 5
    while time.monotonic() < until:
        if connection.heard_within(0.25) or connection.refused_writing:
            return
        connection.write(byte)
    expect(False, f"408 or the connection closed after about {seconds:g} s", "nothing")


BOUNDS = [
    ("a header of 1 MiB", long_header),
    ("1000 headers", many_headers),
    ("two different Content-Length", two_lengths),
    ("garbage for a request line", garbage_line),
]


def bound_cases(prefix: str, endpoint: Callable) -> list[Case]:
    return [case_of(prefix, name, endpoint, run) for name, run in BOUNDS]
