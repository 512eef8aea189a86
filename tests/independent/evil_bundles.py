"""Bundles a follower must refuse whole, and answers it must not believe, as tables.

Paths, modes and shapes are after the protocol page ("Leader") and the house rule that a
write never leaves the target folder; answers after RFC 9421 section 2.4 and RFC 9530.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Callable

from fake_leader import Exchange, Offer, file_entry, make_bundle, resigned, with_body
from follower_process import FollowerProcess
from protocol import Signer, content_digest, default_params, make_signature
from wire import Response

NESTING = 200_000


@dataclass(frozen=True)
class Evil:
    """`bundle` bends a good bundle, `body` its bytes, `spoil` the answer; `prepare` the disk."""

    name: str
    files: Callable[[FollowerProcess], list[dict]] | None = None
    members: dict | None = None
    without: str | None = None
    body: bytes | None = None
    spoil: Callable[[Response, Exchange], Response] | None = None
    cut: int | None = None
    prepare: Callable[[FollowerProcess], None] = lambda follower: None
    undo: Callable[[FollowerProcess], None] = lambda follower: None

    def offer(self, follower: FollowerProcess, role: str, revision: int) -> Offer:
        harmless = [file_entry("evil/harmless.txt", f"of {self.name}\n")]
        more = self.files(follower) if self.files else []
        bundle = make_bundle(follower.signer.name, role, revision, harmless + more)
        bundle |= self.members or {}
        bare = {name: value for name, value in bundle.items() if name != self.without}
        body = self.body if self.body is not None else json.dumps(bare).encode()
        return Offer.of(self.name, bundle, body, spoil=self.spoil, cut=self.cut)


def at(*paths: str) -> Callable[[FollowerProcess], list[dict]]:
    return lambda follower: [file_entry(path, "escaped\n") for path in paths]


def one(**members) -> Callable[[FollowerProcess], list[dict]]:
    return lambda follower: [file_entry("evil/file.txt", "evil\n") | members]


def one_without(*names: str) -> Callable[[FollowerProcess], list[dict]]:
    return lambda follower: [{name: value for name, value in file_entry("evil/file.txt", "evil\n").items() if name not in names}]


def link_out(follower: FollowerProcess) -> None:
    (follower.data / "link").symlink_to(follower.outside)


def unlink(follower: FollowerProcess) -> None:
    (follower.data / "link").unlink(missing_ok=True)


def make_folder(follower: FollowerProcess) -> None:
    (follower.data / "folder").mkdir()
    (follower.data / "folder" / "mine.txt").write_text("a person's\n")


def remove_folder(follower: FollowerProcess) -> None:
    (follower.data / "folder" / "mine.txt").unlink()
    os.rmdir(follower.data / "folder")


def other_key(response: Response, exchange: Exchange) -> Response:
    return resigned(response, exchange, Signer(exchange.signer.name, bytes(range(32))))


def other_request(response: Response, exchange: Exchange) -> Response:
    """Signed for a request of the same follower that was never sent."""
    forged = Exchange(exchange.request.setting("Signature", f"{exchange.label}=:AAAA:"), exchange.label, exchange.signer, None)
    return resigned(response, forged)


def earlier_answer(response: Response, exchange: Exchange) -> Response:
    """An answer that was right once, byte for byte, to another request."""
    return exchange.earlier or response.without("Signature", "Signature-Input")


def other_digest(response: Response, exchange: Exchange) -> Response:
    return resigned(response.setting("Content-Digest", content_digest(b"other")), exchange)


def swapped_body(response: Response, _: Exchange) -> Response:
    return with_body(response, response.body.replace(b"harmless", b"harmfull"))


def body_beside_digest(response: Response, _: Exchange) -> Response:
    return replace(response, body=response.body.replace(b"harmless", b"harmfull"))


def uncovered(*names: str) -> Callable[[Response, Exchange], Response]:
    """Rightly signed, over too little."""

    def spoil(response: Response, exchange: Exchange) -> Response:
        parts = {"status": '"@status"', "digest": '"content-digest"', "request": f'"signature";req;key="{exchange.label}"'}
        components = [text for name, text in parts.items() if name not in names]
        bare = response.without("Signature", "Signature-Input")
        made = make_signature(bare, exchange.signer, components=components, params=default_params(exchange.signer), request=exchange.request)
        return bare.adding(*made.headers)

    return spoil


def unsigned(response: Response, _: Exchange) -> Response:
    return response.without("Signature", "Signature-Input")


EVIL = [
    # paths
    Evil("path: absolute", lambda follower: [file_entry(str(follower.outside / "escape.txt"), "escaped\n")]),
    Evil("path: ..", at("../escape.txt")),
    Evil("path: .. to the configuration", at("../config-follower/conf/extra.json")),
    Evil("path: .. within", at("evil/../../../outside/escape.txt")),
    Evil("path: .. that comes back", at("evil/../inside.txt")),
    Evil("path: .. at the end", at("evil/..")),
    Evil("path: empty", at("")),
    Evil("path: empty segment", at("evil//file.txt")),
    Evil("path: ends in a slash", at("evil/file/")),
    Evil("path: a dot", at(".")),
    Evil("path: dot segment", at("evil/./file.txt")),
    Evil("path: dot in front", at("./evil.txt")),
    Evil("path: NUL", at("evil/a\0b.txt")),
    Evil("path: 5000 characters", at("/".join(["deep"] * 1000))),
    Evil("path: segment of 300 characters", at("evil/" + "n" * 300)),
    Evil("path: a number", one(path=7)),
    Evil("path: twice", at("evil/same.txt", "evil/same.txt")),
    Evil("path: file where another needs a folder", at("evil/both", "evil/both/inner.txt")),
    Evil("path: through a symlink", at("link/escape.txt"), prepare=link_out, undo=unlink),
    Evil("path: through a symlink to an existing file", at("link/target.txt"), prepare=link_out, undo=unlink),
    Evil("path: an existing folder", at("folder"), prepare=make_folder, undo=remove_folder),
    # a file's other members
    Evil("file: sha256 of other bytes", one(sha256="0" * 64)),
    Evil("file: sha256 isn't hex", one(sha256="z" * 64)),
    Evil("file: size of other bytes", one(size=3)),
    Evil("file: two contents", one(content_base64="ZXZpbAo=")),
    Evil("file: no content", one_without("content")),
    Evil("file: no sha256", one_without("sha256")),
    Evil("file: bad base64", lambda follower: [{**one_without("content")(follower)[0], "content_base64": "***"}]),
    Evil("mode: 9999", one(mode="9999")),
    Evil("mode: 4755, setuid", one(mode="4755")),
    Evil("mode: 2755, setgid", one(mode="2755")),
    Evil("mode: 644, three digits", one(mode="644")),
    Evil("mode: empty", one(mode="")),
    Evil("mode: a number", one(mode=420)),
    Evil("mode: +644", one(mode="+644")),
    Evil("owner: a name", one(owner="root")),
    Evil("owner: three parts", one(owner="0:0:0")),
    Evil("owner: negative", one(owner="-1:-1")),
    # the bundle's members
    Evil("bundle: role is a number", members={"role": 7}),
    Evil("bundle: role is a path", members={"role": "../core"}),
    Evil("bundle: machine is another", members={"machine": "core-2"}),
    Evil("bundle: no machine", without="machine"),
    Evil("bundle: no digest", without="digest"),
    Evil("bundle: no files", without="files"),
    Evil("bundle: files is an object", members={"files": {}}),
    Evil("bundle: revision is a string", members={"revision": "12"}),
    Evil("body: not JSON", body=b"this is not JSON"),
    Evil("body: a list", body=b"[]"),
    Evil("body: empty", body=b""),
    Evil("body: nested deeply", body=b"[" * NESTING + b"]" * NESTING),
    Evil("body: files nested deeply", body=b'{"files":' * NESTING + b"1" + b"}" * NESTING),
    # the answer
    Evil("answer: unsigned", spoil=unsigned),
    Evil("answer: no Signature", spoil=lambda response, _: response.without("Signature")),
    Evil("answer: signed with another key", spoil=other_key),
    Evil("answer: signed for another request", spoil=other_request),
    Evil("answer: an earlier one again", spoil=earlier_answer),
    Evil("answer: status not covered", spoil=uncovered("status")),
    Evil("answer: digest not covered", spoil=uncovered("digest")),
    Evil("answer: request not covered", spoil=uncovered("request")),
    Evil("answer: digest of other bytes", spoil=other_digest),
    Evil("answer: body replaced, digest kept", spoil=body_beside_digest),
    Evil("answer: body and digest replaced", spoil=swapped_body),
    Evil("answer: no Content-Digest", spoil=lambda response, exchange: uncovered("digest")(response.without("Content-Digest"), exchange)),
    Evil("answer: body cut short", cut=50),
]

# Either refused or done harmlessly: nothing outside changes, and nothing through the link.
LITERAL_BACKSLASH = "evil/back\\..\\slash.txt"


def leaf_link(follower: FollowerProcess) -> None:
    (follower.data / "link").symlink_to(follower.outside / "target.txt")


HARMLESS = [
    Evil("harmless: a backslash is a letter", at(LITERAL_BACKSLASH)),
    Evil("harmless: the file itself is a symlink", at("link"), prepare=leaf_link, undo=unlink),
    Evil("harmless: another role", members={"role": "web"}),
]
