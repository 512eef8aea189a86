"""The signature rules as tables, the same for every signed route of leader and follower.

RFC 9421 sections 2 (components), 2.3 (parameters), 3.2 (verifying) and 4 (several
signatures), RFC 9530 section 2, RFC 8941 section 4.2, and the protocol page's order of checks:
unsigned, malformed-signature, bad-signature, clock-skew, replayed, digest-mismatch.
An `Endpoint` is a request that would be right; each row bends it.
"""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Callable

from protocol import (
    WINDOW,
    Signature,
    Signer,
    byte_sequence,
    content_digest,
    needed_components,
    new_nonce,
    now,
    request_signature,
    sign,
    with_digest,
)
from runner import MAYBE_SIGNED, Case, expect, expect_problem, expect_signed, expect_status
from wire import Connection, Request, Response, Server

UNSIGNED, MALFORMED, BAD = "unsigned", "malformed-signature", "bad-signature"
SKEW, REPLAYED, MISMATCH = "clock-skew", "replayed", "digest-mismatch"
MARGIN = 10


@dataclass(frozen=True)
class Endpoint:
    server: Server
    plain: Request
    me: Signer
    other: Signer
    right: tuple[int, ...]

    def signed(self, **knobs) -> Request:
        return sign(self.plain, self.me, **knobs)

    def signature(self, request: Request | None = None, **knobs) -> Signature:
        return request_signature(with_digest(request or self.plain), self.me, **knobs)

    def carrying(self, *headers: tuple[str, str]) -> Request:
        """The plain request with its digest and just these headers."""
        return with_digest(self.plain).adding(*headers)

    def components(self) -> tuple[str, ...]:
        return needed_components(self.plain)

    def check_right(self, request: Request) -> Response:
        response = self.server.send(request)
        expect_status(response, self.right)
        expect_signed(response, request, self.me)
        return response


@dataclass(frozen=True)
class Wrong:
    name: str
    bend: Callable[[Endpoint], Request]
    kinds: tuple[str, ...]


def check_wrong(endpoint: Endpoint, row: Wrong) -> None:
    request = row.bend(endpoint)
    response = endpoint.server.send(request)
    body = expect_problem(response, 401, row.kinds)
    if body["type"].endswith(SKEW):
        expect(type(body.get("server_time")) is int, "an integer server_time", body)
        expect(abs(body["server_time"] - now()) < MARGIN, "server_time to be the time", body)
        expect_signed(response, request, endpoint.me)
    elif body["type"].endswith((REPLAYED, MISMATCH)):
        expect_signed(response, request, endpoint.me, MAYBE_SIGNED)


# Bending


def input_text(text: str) -> Callable[[Endpoint], Request]:
    """A right Signature beside this Signature-Input."""
    return lambda e: e.signed().setting("Signature-Input", text)


def value_text(text: str) -> Callable[[Endpoint], Request]:
    return lambda e: e.signed().setting("Signature", text)


def params(**texts) -> Callable[[Endpoint], Request]:
    """Signed rightly over parameters with these values, as written; None leaves one out."""
    return lambda e: e.signed(**texts)


def created(offset: int) -> Callable[[Endpoint], Request]:
    return lambda e: e.signed(created=str(now() + offset))


def covering(*more: str) -> Callable[[Endpoint], Request]:
    return lambda e: e.signed(components=(*e.components(), *more))


def not_covering(name: str) -> Callable[[Endpoint], Request]:
    return lambda e: e.signed(components=[part for part in e.components() if part != f'"{name}"'])


def mac_changed(change: Callable[[bytes], bytes]) -> Callable[[Endpoint], Request]:
    def bend(e: Endpoint) -> Request:
        made = e.signature()
        mac = e.me.mac("not what was signed")
        return e.carrying(*replace(made, value=byte_sequence(change(mac))).headers)

    return bend


def cut_mac(length: int) -> Callable[[Endpoint], Request]:
    """The right MAC, cut to its first bytes: a verifier comparing prefixes would take it."""

    def bend(e: Endpoint) -> Request:
        made = e.signature()
        mac = base64.b64decode(made.value.strip(":"))
        return e.carrying(*replace(made, value=byte_sequence(mac[:length])).headers)

    return bend


def joined(*signatures: Signature) -> list[tuple[str, str]]:
    return [
        ("Signature-Input", ", ".join(f"{one.label}={one.input}" for one in signatures)),
        ("Signature", ", ".join(f"{one.label}={one.value}" for one in signatures)),
    ]


def as_name(name: str) -> Callable[[Endpoint], Request]:
    return params(keyid=json.dumps(name))


def moved(**fields) -> Callable[[Endpoint], Request]:
    """Signed, and then something of it replaced."""
    return lambda e: e.signed().changed(**fields)


WRONG_ANYWHERE = [
    # there, or not
    Wrong("unsigned", lambda e: e.plain, (UNSIGNED,)),
    Wrong("only Signature-Input", lambda e: e.signed().without("Signature"), (MALFORMED,)),
    Wrong("only Signature", lambda e: e.signed().without("Signature-Input"), (MALFORMED,)),
    Wrong("both fields empty", lambda e: e.carrying(("Signature-Input", ""), ("Signature", "")), (UNSIGNED, MALFORMED)),
    # structured fields
    Wrong("garbage in Signature-Input", input_text("%%% ((("), (MALFORMED,)),
    Wrong("garbage in Signature", value_text("%%% ((("), (MALFORMED,)),
    Wrong("Signature-Input not an inner list", input_text("sig1=1"), (MALFORMED,)),
    Wrong("Signature-Input with an open list", input_text('sig1=("@method" "@path"'), (MALFORMED,)),
    Wrong("Signature-Input with a trailing comma", lambda e: e.signed().setting("Signature-Input", f"sig1={e.signature().input},"), (MALFORMED,)),
    Wrong("Signature-Input nested deeply", input_text("sig1=" + "(" * 2000), (MALFORMED,)),
    Wrong("Signature is a string", value_text('sig1="AAAA"'), (MALFORMED,)),
    Wrong("Signature is bad base64", value_text("sig1=:***:"), (MALFORMED,)),
    Wrong("Signature under another label", lambda e: e.signed().setting("Signature", f"sig2={e.signature().value}"), (MALFORMED,)),
    Wrong("label in upper case", lambda e: e.signed(label="SIG1"), (MALFORMED,)),
    # components
    Wrong("@method not covered", not_covering("@method"), (MALFORMED,)),
    Wrong("@path not covered", not_covering("@path"), (MALFORMED,)),
    Wrong("@query not covered", not_covering("@query"), (MALFORMED,)),
    Wrong("no component covered", lambda e: e.signed(components=()), (MALFORMED,)),
    Wrong("a component twice", covering('"@method"'), (MALFORMED,)),
    Wrong("a component that is a token", lambda e: e.signed(components=[part.strip('"').replace("@", "") for part in e.components()]), (MALFORMED,)),
    Wrong("unknown derived component", covering('"@foo"'), (MALFORMED,)),
    Wrong("@status of a request", covering('"@status"'), (MALFORMED,)),
    Wrong("@signature-params as a component", covering('"@signature-params"'), (MALFORMED,)),
    Wrong("covered header is absent", covering('"x-absent"'), (MALFORMED,)),
    Wrong("component with ;req in a request", covering('"@authority";req'), (MALFORMED,)),
    Wrong("component with an unknown parameter", covering('"host";zz'), (MALFORMED,)),
    Wrong("component in upper case", lambda e: sign(e.plain.adding(("X-Extra", "1")), e.me, components=(*e.components(), '"X-Extra"')), (MALFORMED, BAD)),
    # parameters
    Wrong("no created", params(created=None), (MALFORMED,)),
    Wrong("no nonce", params(nonce=None), (MALFORMED,)),
    Wrong("no keyid", params(keyid=None), (MALFORMED,)),
    Wrong("no tag", params(tag=None), (MALFORMED,)),
    Wrong("another tag", params(tag='"other"'), (MALFORMED,)),
    Wrong("tag in upper case", params(tag='"LOCKSTEP"'), (MALFORMED,)),
    Wrong("tag is a token", params(tag="lockstep"), (MALFORMED,)),
    Wrong("unknown alg", params(alg='"rsa-pss-sha512"'), (MALFORMED,)),
    Wrong("alg none", params(alg='"none"'), (MALFORMED,)),
    Wrong("alg in upper case", params(alg='"HMAC-SHA256"'), (MALFORMED,)),
    Wrong("alg is a token", params(alg="hmac-sha256"), (MALFORMED,)),
    Wrong("created is a decimal", lambda e: e.signed(created=f"{now()}.5"), (MALFORMED,)),
    Wrong("created is a string", lambda e: e.signed(created=f'"{now()}"'), (MALFORMED,)),
    Wrong("created is a boolean", params(created="?1"), (MALFORMED,)),
    Wrong("created has 16 digits", params(created="1" * 16), (MALFORMED,)),
    Wrong("expires is a string", lambda e: e.signed(expires=f'"{now() + 60}"'), (MALFORMED,)),
    Wrong("nonce too short", lambda e: e.signed(nonce=f'"{new_nonce()[:21]}"'), (MALFORMED,)),
    Wrong("nonce empty", params(nonce='""'), (MALFORMED,)),
    Wrong("nonce is a byte sequence", lambda e: e.signed(nonce=byte_sequence(new_nonce().encode())), (MALFORMED,)),
    Wrong("keyid is a token", lambda e: e.signed(keyid="a" + new_nonce()[:4].replace("-", "x")), (MALFORMED,)),
    Wrong("keyid empty", params(keyid='""'), (MALFORMED, BAD)),
    # the MAC
    Wrong("unknown keyid", as_name("nobody-here"), (BAD,)),
    Wrong("keyid __proto__", as_name("__proto__"), (BAD,)),
    Wrong("keyid constructor", as_name("constructor"), (BAD,)),
    Wrong("keyid is a path", as_name("../../etc/passwd"), (BAD, MALFORMED)),
    Wrong("keyid of 3000 characters", as_name("k" * 3000), (BAD, MALFORMED)),
    Wrong("another key under one's own name", lambda e: sign(e.plain, Signer(e.me.name, e.other.key)), (BAD,)),
    Wrong("one's own key under another name", lambda e: sign(e.plain, Signer(e.other.name, e.me.key)), (BAD,)),
    Wrong("a key of zeros", lambda e: sign(e.plain, Signer(e.me.name, bytes(32))), (BAD,)),
    Wrong("a key of zeros under an unknown name", lambda e: sign(e.plain, Signer("nobody-here", bytes(32))), (BAD,)),
    Wrong("another MAC", mac_changed(lambda mac: mac), (BAD,)),
    Wrong("MAC cut to 16 bytes", cut_mac(16), (BAD, MALFORMED)),
    Wrong("MAC cut to 31 bytes", cut_mac(31), (BAD, MALFORMED)),
    Wrong("MAC empty", cut_mac(0), (BAD, MALFORMED)),
    Wrong("MAC longer by one byte", mac_changed(lambda mac: mac + b"\0"), (BAD, MALFORMED)),
    Wrong("signature for another query", lambda e: e.signed().changed(target=e.plain.target + "?x=1"), (BAD,)),
    Wrong("signature for another path", lambda e: sign(e.plain.changed(target="/elsewhere"), e.me).changed(target=e.plain.target), (BAD,)),
    Wrong("signature for another method", lambda e: sign(e.plain.changed(method="PATCH"), e.me).changed(method=e.plain.method), (BAD,)),
    Wrong("covered header changed afterwards", lambda e: sign(e.plain.adding(("X-Extra", "1")), e.me, components=(*e.components(), '"x-extra"')).setting("X-Extra", "2"), (BAD,)),
    Wrong("created changed afterwards", lambda e: _with_input(e, lambda text: text.replace("created=1", "created=2", 1)), (BAD,)),
    Wrong("components reordered afterwards", lambda e: _with_input(e, lambda text: text.replace('"@method" "@path"', '"@path" "@method"')), (BAD,)),
    # clocks
    Wrong("created too old", created(-WINDOW - 100), (SKEW,)),
    Wrong("created too new", created(WINDOW + 100), (SKEW,)),
    Wrong("created zero", params(created="0"), (SKEW,)),
    Wrong("created negative", params(created="-1"), (SKEW,)),
    Wrong("created has 15 digits", params(created="9" * 15), (SKEW,)),
    Wrong("created lowest", params(created="-" + "9" * 15), (SKEW,)),
    Wrong("expires in the past", lambda e: e.signed(created=str(now() - 20), expires=str(now() - 10)), (SKEW,)),
    Wrong("another key and too old", lambda e: sign(e.plain, Signer(e.me.name, e.other.key), created="0"), (BAD,)),
    # several signatures
    Wrong("two labels tagged lockstep", lambda e: e.carrying(*joined(e.signature(), e.signature(label="sig2"))), (MALFORMED,)),
    Wrong("ours is wrong beside a right one with another tag", lambda e: e.carrying(*joined(replace(e.signature(), value=byte_sequence(bytes(32))), e.signature(label="sig2", tag='"other"'))), (BAD,)),
]

WRONG_WITH_BODY = [
    Wrong("body: unsigned", lambda e: e.carrying(), (UNSIGNED,)),
    Wrong("body: content-digest not covered", not_covering("content-digest"), (MALFORMED,)),
    Wrong("body: no Content-Digest, not covered", lambda e: e.plain.adding(*request_signature(e.plain, e.me, components=e.components()[:3]).headers), (MALFORMED,)),
    Wrong("body: no Content-Digest, covered", lambda e: e.signed().without("Content-Digest"), (MALFORMED,)),
    Wrong("body: digest of another body", lambda e: sign(e.plain.adding(("Content-Digest", content_digest(b"other"))), e.me), (MISMATCH,)),
    Wrong("body: replaced, digest kept", lambda e: e.signed().changed(body=e.plain.body + b" "), (MISMATCH,)),
    Wrong("body: replaced and its digest too", lambda e: e.signed().changed(body=e.plain.body + b" ").setting("Content-Digest", content_digest(e.plain.body + b" ")), (BAD,)),
    Wrong("body: right sha-512 beside a wrong sha-256", lambda e: sign(e.plain.adding(("Content-Digest", content_digest(b"other") + ", " + content_digest(e.plain.body, "sha-512"))), e.me), (MISMATCH,)),
    Wrong("body: only a sha-512 digest", lambda e: sign(e.plain.adding(("Content-Digest", content_digest(e.plain.body, "sha-512"))), e.me), (MALFORMED, MISMATCH)),
    Wrong("body: only an md5 digest", lambda e: sign(e.plain.adding(("Content-Digest", content_digest(e.plain.body, "md5"))), e.me), (MALFORMED, MISMATCH)),
    Wrong("body: Content-Digest is garbage", lambda e: sign(e.plain.adding(("Content-Digest", "%%%")), e.me), (MALFORMED, MISMATCH)),
    Wrong("body: Content-Digest is a string", lambda e: sign(e.plain.adding(("Content-Digest", 'sha-256="x"')), e.me), (MALFORMED, MISMATCH)),
    Wrong("body: digest cut short", lambda e: sign(e.plain.adding(("Content-Digest", "sha-256=:AAAA:")), e.me), (MALFORMED, MISMATCH)),
]


def _with_input(e: Endpoint, change: Callable[[str], str]) -> Request:
    made = e.signature()
    return e.carrying(*replace(made, input=change(made.input)).headers)


# Right in unusual ways


def loose_spaces(e: Endpoint) -> Request:
    """Not the canonical spelling of the field; the base is made from the canonical one."""
    made = e.signature()
    spaced = made.input.replace('("@method" ', '( "@method"   ').replace(";created", "; created")
    return e.carrying(*replace(made, input=spaced).headers)


def split_lines(e: Endpoint) -> Request:
    other, mine = e.signature(label="proxy", tag='"other"'), e.signature()
    return e.carrying(*other.headers, *mine.headers)


def renamed_headers(change: Callable[[str], str]) -> Callable[[Endpoint], Request]:
    return lambda e: replace(e.signed(), headers=[(change(name), value) for name, value in e.signed().headers])


def with_authority(e: Endpoint) -> Request:
    hosted = e.plain.adding(("Host", e.server.authority))
    return sign(hosted, e.me, components=(*e.components(), '"@authority"'))


def with_extra(*lines: tuple[str, str]) -> Callable[[Endpoint], Request]:
    return lambda e: sign(e.plain.adding(*lines), e.me, components=('"x-extra"', *e.components()))


def unknown_alg_beside(e: Endpoint) -> Request:
    return e.carrying(*joined(e.signature(label="pq", tag='"proxy"', alg='"ml-dsa-65"'), e.signature()))


RIGHT_ANYWHERE = [
    ("as the protocol page has it", params()),
    ("label lockstep-1", params(label="lockstep-1")),
    ("label *a.b_c", params(label="*a.b_c")),
    ("components in reverse order", lambda e: e.signed(components=e.components()[::-1])),
    ("components rotated", lambda e: e.signed(components=e.components()[1:] + e.components()[:1])),
    ("parameters in reverse order", params(order=["tag", "alg", "keyid", "nonce", "created"])),
    ("alg absent", params(alg=None)),
    ("@authority covered", with_authority),
    ("another header covered", with_extra(("X-Extra", "one"))),
    ("a header of two lines covered", with_extra(("X-Extra", "one"), ("X-Extra", " two  "))),
    ("spaces in Signature-Input", loose_spaces),
    ("ours second of two labels", lambda e: e.carrying(*joined(e.signature(label="proxy", tag='"other"'), e.signature()))),
    ("ours first of two labels", lambda e: e.carrying(*joined(e.signature(label="mine"), e.signature(label="sig1", tag=None)))),
    ("a label of unknown algorithm beside ours", unknown_alg_beside),
    ("labels on separate lines", split_lines),
    ("header names in lower case", renamed_headers(str.lower)),
    ("header names in upper case", renamed_headers(str.upper)),
    ("expires in the future", lambda e: e.signed(expires=str(now() + 60))),
    ("created at the old edge", created(-WINDOW + MARGIN)),
    ("created at the new edge", created(WINDOW - MARGIN)),
    ("nonce of 48 bytes", lambda e: e.signed(nonce=f'"{new_nonce(48)}"')),
]


# Cases of more than one request


def replay(e: Endpoint) -> None:
    request = e.signed()
    e.check_right(request)
    expect_problem(e.server.send(request), 401, (REPLAYED,))


def replay_with_other_created(e: Endpoint) -> None:
    nonce = f'"{new_nonce()}"'
    e.check_right(e.signed(nonce=nonce))
    expect_problem(e.server.send(e.signed(nonce=nonce, created=str(now() - 5))), 401, (REPLAYED,))


def replay_under_other_label(e: Endpoint) -> None:
    nonce = f'"{new_nonce()}"'
    e.check_right(e.signed(nonce=nonce))
    expect_problem(e.server.send(e.signed(nonce=nonce, label="fresh")), 401, (REPLAYED,))


def replay_at_once(e: Endpoint) -> None:
    """Of eight sent together exactly one is taken: looking up and noting a nonce is one step."""
    request = e.signed()
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: e.server.send(request), range(8)))
    taken = [response for response in responses if response.status in e.right]
    expect(len(taken) == 1, "one taken of eight", sorted(response.status for response in responses))
    for response in responses:
        if response not in taken:
            expect_problem(response, 401, (REPLAYED,))


def forged_nonce_stays_free(e: Endpoint) -> None:
    """Who can't sign can't use up the nonces of who can."""
    nonce = f'"{new_nonce()}"'
    forged = sign(e.plain, Signer(e.me.name, e.other.key), nonce=nonce)
    expect_problem(e.server.send(forged), 401, (BAD,))
    e.check_right(e.signed(nonce=nonce))


def unknown_key_looks_alike(e: Endpoint) -> None:
    """No difference in the answer tells which names exist."""

    def words(signer: Signer) -> list[str]:
        body = expect_problem(e.server.send(sign(e.plain, signer)), 401, (BAD,))
        return [body[member].replace(signer.name, "NAME") for member in ("type", "title", "detail")]

    known, unknown = words(Signer(e.me.name, e.other.key)), words(Signer("nobody-here", e.other.key))
    expect(known == unknown, f"the same answer as to a wrong key, {known}", unknown)


def two_on_one_connection(e: Endpoint) -> None:
    with Connection(e.server) as connection:
        for _ in range(2):
            request = e.signed().framed(e.server.authority, close=False)
            connection.write(request.head() + request.wire_body())
            response = connection.read(request.method)
            expect_status(response, e.right)
            expect_signed(response, request, e.me)


def chunked_body(e: Endpoint) -> None:
    e.check_right(e.signed().adding(("Transfer-Encoding", "chunked")))


SEQUENCES = [
    ("replayed as it was", replay),
    ("replayed nonce with another created", replay_with_other_created),
    ("replayed nonce under another label", replay_under_other_label),
    ("replayed eight times at once", replay_at_once),
    ("a forged request leaves its nonce free", forged_nonce_stays_free),
    ("unknown key and wrong key answered alike", unknown_key_looks_alike),
    ("two requests on one connection", two_on_one_connection),
]


def case_of(prefix: str, name: str, endpoint: Callable, run: Callable[[Endpoint], object]) -> Case:
    return Case(f"{prefix}: {name}", lambda context: run(endpoint(context)))


def right_cases(prefix: str, endpoint: Callable) -> list[Case]:
    """`endpoint` makes the Endpoint of the runner's context."""
    return [case_of(prefix, name, endpoint, lambda e, bend=bend: e.check_right(bend(e))) for name, bend in RIGHT_ANYWHERE]


def wrong_cases(prefix: str, endpoint: Callable, rows: list[Wrong]) -> list[Case]:
    return [case_of(prefix, row.name, endpoint, lambda e, row=row: check_wrong(e, row)) for row in rows]


def sequence_cases(prefix: str, endpoint: Callable) -> list[Case]:
    return [case_of(prefix, name, endpoint, run) for name, run in SEQUENCES]
