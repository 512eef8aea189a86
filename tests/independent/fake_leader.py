"""The protocol page from the leader's side: serves offered bundles, receives reports.

A bundle is offered to a machine with, if wanted, a function that spoils the answer on its
way out. Everything that happens is an event others can wait for: `get` (a request for a
bundle came), `served` (a bundle went out), `status` (a report came), `refused` (a request
whose signature didn't pass). RFC 9110 section 13.1.2 for If-None-Match.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
import time
from dataclasses import dataclass, replace
from typing import Callable
from urllib.parse import parse_qs, unquote_to_bytes

from fake_server import Answer, FakeServer, Handler, Limits, Problem, json_answer, parse_json
from protocol import Refused, Signer, content_digest, sign_response
from wire import Request, Response

LONGEST_WAIT = 600
UNITS = {"s": 1, "m": 60}
TYPES = {"json": "application/json", "yml": "application/yaml", "yaml": "application/yaml", "txt": "text/plain; charset=utf-8"}


def file_entry(path, content: str | bytes, mode="0644", **more) -> dict:
    data = content.encode() if isinstance(content, str) else content
    entry = {"path": path, "mode": mode, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    if isinstance(content, str):
        entry["content"] = content
    else:
        entry["content_base64"] = base64.b64encode(content).decode()
    return entry | more


def make_bundle(machine: str, role: str, revision: int, files: list[dict], sort: bool = True) -> dict:
    ordered = sorted(files, key=lambda file: str(file["path"]).encode()) if sort else files
    digest = hashlib.sha256(json.dumps([revision, ordered]).encode()).hexdigest()
    return {"role": role, "machine": machine, "revision": revision, "digest": digest, "files": ordered}


@dataclass(frozen=True)
class Exchange:
    """What a spoiler may want to know of the request, and of one answered before."""

    request: Request
    label: str
    signer: Signer
    earlier: Response | None


@dataclass(frozen=True)
class Offer:
    name: str
    bundle: dict
    body: bytes
    etag: str
    spoil: Callable[[Response, Exchange], Response] | None = None
    cut: int | None = None
    gzip: bool = False

    @staticmethod
    def of(name: str, bundle: dict, body: bytes | None = None, **more) -> Offer:
        """`body` replaces the bundle's JSON; the ETag stays that of the bundle."""
        text = json.dumps(bundle, ensure_ascii=False).encode() if body is None else body
        return Offer(name, bundle, text, f'"{bundle["digest"]}"', **more)


@dataclass(frozen=True)
class Event:
    number: int
    kind: str
    value: object


class FakeLeader(FakeServer):
    def __init__(self, followers: dict[str, tuple[Signer, str]], limits: Limits = Limits()):
        super().__init__([signer for signer, _ in followers.values()], limits)
        self.roles = {name: role for name, (_, role) in followers.items()}
        self.offers: dict[str, Offer] = {}
        self.events: list[Event] = []
        self.changed = threading.Condition()
        self.latest: Response | None = None
        self.earlier: Response | None = None
        self.broken = False
        self.skew_is_signed = True

    # Offering and waiting

    def offer(self, offer: Offer, machine: str) -> int:
        """From now on this is the machine's bundle; answers the place in the list of events."""
        with self.changed:
            self.offers[machine] = offer
            self.changed.notify_all()
            return len(self.events)

    def note(self, kind: str, value: object) -> None:
        with self.changed:
            self.events.append(Event(len(self.events), kind, value))
            self.changed.notify_all()

    def wait_for(self, kind: str, since: int, patience: float, matches=lambda value: True) -> Event | None:
        """The first such event at or after `since`, None if none comes in time."""

        def found() -> Event | None:
            return next((one for one in self.events[since:] if one.kind == kind and matches(one.value)), None)

        with self.changed:
            return self.changed.wait_for(found, patience)

    def wait_until(self, holds: Callable[[], bool], patience: float) -> bool:
        """Looks again after every event."""
        deadline = time.monotonic() + patience
        seen = -1
        while True:
            with self.changed:
                self.changed.wait_for(lambda: len(self.events) != seen, max(0.0, deadline - time.monotonic()))
                seen = len(self.events)
            if holds():
                return True
            if time.monotonic() >= deadline:
                return False

    def remember(self, response: Response) -> None:
        """Keeps the last right answer that carried another bundle than the latest does."""
        if self.latest is None or self.latest.header("etag") != response.header("etag"):
            self.earlier, self.latest = self.latest, response

    def mark(self) -> int:
        with self.changed:
            return len(self.events)

    # Answering

    def note_refused(self, request: Request, refused: Refused) -> None:
        self.note("refused", (f"{request.method} {request.target}", refused.kind, refused.why))

    def refuse(self, handler: Handler, request: Request, refused: Refused) -> None:
        forged = replace_label(refused) if not self.skew_is_signed else refused
        super().refuse(handler, request, forged)

    def serve(self, handler: Handler, request: Request) -> None:
        super().serve(SpoilingHandler(self, handler, request), request)

    def route(self, request: Request, signer: Signer) -> Answer:
        parts = request.path.strip("/").split("/", 2)
        if parts == ["status"]:
            return self.take_report(request, signer)
        if parts[0] != "conf":
            raise Problem(404, "not-found", "no such route")
        if request.method != "GET":
            raise Problem(405, "method", "only GET", [("Allow", "GET")])
        return self.conf(request, signer, parts[1:])

    def take_report(self, request: Request, signer: Signer) -> Answer:
        if request.method != "POST":
            raise Problem(405, "method", "only POST", [("Allow", "POST")])
        report = parse_json(request.body)
        if not isinstance(report, dict):
            raise Problem(400, "invalid-body", "a report is an object")
        self.note("status", (signer.name, report))
        return json_answer(200, {})

    def conf(self, request: Request, signer: Signer, rest: list[str]) -> Answer:
        role = self.roles[signer.name]
        asked = parse_qs(request.query[1:], keep_blank_values=True)
        if rest and rest[0] != role:
            raise Problem(403, "forbidden", "not the follower's role")
        if asked.get("machine", [signer.name]) != [signer.name]:
            raise Problem(403, "forbidden", "not the follower's machine")
        if len(rest) == 2:
            return self.one_file(self.offers[signer.name], rest[1])
        self.note("get", request)
        if self.broken:
            raise Problem(500, "internal", "broken for a while")
        offer = self.held(request, signer.name, wait_seconds(asked.get("wait")))
        if known(request, offer.etag):
            return Answer(304, headers=[("ETag", offer.etag)])
        return self.whole(request, offer)

    def held(self, request: Request, machine: str, seconds: float) -> Offer:
        with self.changed:
            if request.header("if-none-match"):
                self.changed.wait_for(lambda: not known(request, self.offers[machine].etag), seconds)
            return self.offers[machine]

    def whole(self, request: Request, offer: Offer) -> Answer:
        headers = [("ETag", offer.etag), ("Vary", "Accept, Accept-Encoding")]
        if preferred(request.header("accept"), ["application/json", "application/x-tar"]) == "application/x-tar":
            body, media = tar_of(offer.bundle), "application/x-tar"
        else:
            body, media = offer.body, "application/json"
        if offer.gzip and preferred(request.header("accept-encoding") or "identity", ["identity", "gzip"], True) == "gzip":
            body = gzip.compress(body)
            headers.append(("Content-Encoding", "gzip"))
        return Answer(200, body, [("Content-Type", media), *headers])

    def one_file(self, offer: Offer, path: str) -> Answer:
        for file in offer.bundle["files"]:
            if file["path"].encode() == unquote_to_bytes(path):
                media = TYPES.get(path.rpartition(".")[2], "application/octet-stream")
                return Answer(200, content_of(file), [("Content-Type", media)])
        raise Problem(404, "not-found", "no such file")


class SpoilingHandler:
    """Stands between the server and the wire, and spoils what the offer says to spoil."""

    def __init__(self, leader: FakeLeader, handler: Handler, request: Request):
        self.leader = leader
        self.handler = handler
        self.request = request

    def send_answer(self, response) -> None:
        etag = dict(response.headers).get("ETag")
        offer = next((one for one in self.leader.offers.values() if one.etag == etag), None)
        if response.status != 200 or offer is None:
            return self.handler.send_answer(response)
        spoiled = self.spoil(offer, response)
        cut = None if offer.cut is None else max(1, len(spoiled.body) * offer.cut // 100)
        self.handler.close_connection |= cut is not None
        self.handler.send_answer(spoiled, cut)
        self.leader.note("served", offer.name)

    def spoil(self, offer: Offer, response: Response) -> Response:
        if offer.spoil is None:
            self.leader.remember(response)
            return response
        label = re.search(r'"signature";req;key="([^"]+)"', response.header("signature-input")).group(1)
        signer = next(one for one in self.leader.signers.values() if f'keyid="{one.name}"' in response.header("signature-input"))
        return offer.spoil(response, Exchange(self.request, label, signer, self.leader.earlier))


def replace_label(refused: Refused) -> Refused:
    """The same refusal, answered without a signature."""
    return Refused(refused.kind, refused.why, None)


def resigned(response: Response, exchange: Exchange, signer: Signer | None = None) -> Response:
    bare = response.without("Signature", "Signature-Input")
    return sign_response(bare, exchange.request, exchange.label, signer or exchange.signer)


def with_body(response: Response, body: bytes) -> Response:
    return replace(response, body=body).setting("Content-Digest", content_digest(body))


def known(request: Request, etag: str) -> bool:
    condition = request.header("if-none-match") or ""
    tags = [part.strip().removeprefix("W/") for part in condition.split(",")]
    return etag in tags or condition.strip() == "*"


def wait_seconds(values: list[str] | None) -> float:
    if values is None:
        return 0
    found = re.fullmatch(r"([0-9]{1,9})([sm])", values[-1])
    seconds = int(found.group(1)) * UNITS[found.group(2)] if found else LONGEST_WAIT + 1
    if seconds > LONGEST_WAIT:
        raise Problem(400, "invalid-query", "wait is at most 10m, like 60s")
    return seconds


def preferred(field: str | None, offered: list[str], last_wins: bool = False) -> str:
    """The offered value of highest quality; the first of equals, or the last."""
    weights = {}
    for part in (field or "*/*").split(","):
        name, *params = [piece.strip() for piece in part.split(";")]
        weights[name] = float(next((one[2:] for one in params if one.startswith("q=")), "1"))

    def weight(value: str) -> float:
        fallback = weights.get("*", weights.get("*/*", 0.001 if value == "identity" else 0.0))
        return weights.get(value, weights.get(value.split("/")[0] + "/*", fallback))

    ranked = sorted(offered, key=weight, reverse=True)
    best = [value for value in ranked if weight(value) == weight(ranked[0])]
    return best[-1] if last_wins else best[0]


def content_of(file: dict) -> bytes:
    return file["content"].encode() if "content" in file else base64.b64decode(file["content_base64"])


def tar_of(bundle: dict) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file in bundle["files"]:
            member = tarfile.TarInfo(file["path"])
            member.size, member.mode = file["size"], int(file["mode"], 8)
            if "owner" in file:
                member.uid, member.gid = map(int, file["owner"].split(":"))
            tar.addfile(member, io.BytesIO(content_of(file)))
    return out.getvalue()
