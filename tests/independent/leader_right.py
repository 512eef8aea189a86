"""What a leader must answer rightly signed requests: bundles, 304, waiting, codings, files.

RFC 9110 for conditional requests (13.1.2) and negotiation (12.5), RFC 9530 section 2: the
Content-Digest of an encoded answer is over the encoded bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import re
import tarfile
from urllib.parse import quote

import signature_cases
from leader_target import Leader, content_of
from protocol import new_nonce, sign
from runner import Case, Table, expect, expect_json, expect_signed, expect_status, shown
from wire import Request, Response

MODE = re.compile(r"0[0-7]{3}")
OWNER = re.compile(r"[0-9]+:[0-9]+")
HEX256 = re.compile(r"[0-9a-f]{64}")
ZSTD_MAGIC = bytes.fromhex("28b52ffd")
FILES_FETCHED = 20
MEDIA_TYPES = {
    ".json": {"application/json"},
    ".yml": {"application/yaml", "application/x-yaml", "text/yaml"},
    ".yaml": {"application/yaml", "application/x-yaml", "text/yaml"},
    ".txt": {"text/plain"},
    ".html": {"text/html"},
    ".css": {"text/css"},
}

RIGHT = Table()


@RIGHT.case("bundle: JSON has the shape of the page")
def bundle_shape(leader: Leader) -> None:
    bundle = leader.bundle
    expect(bundle.get("role") == leader.role, f"role {leader.role}", bundle.get("role"))
    expect(bundle.get("machine") == leader.me.name, f"machine {leader.me.name}", bundle.get("machine"))
    expect(type(bundle.get("revision")) is int, "an integer revision", bundle.get("revision"))
    expect(bool(HEX256.fullmatch(str(bundle.get("digest")))), "a digest of 64 hex digits", bundle.get("digest"))
    expect(bool(bundle.get("files")), "some files", bundle.get("files"))


@RIGHT.case("bundle: every file is whole and well described")
def bundle_files(leader: Leader) -> None:
    for file in leader.bundle["files"]:
        path = file["path"]
        expect(("content" in file) != ("content_base64" in file), f"one content of {path}", sorted(file))
        content = content_of(file)
        expect(file["size"] == len(content), f"size {len(content)} of {path}", file["size"])
        expect(file["sha256"] == hashlib.sha256(content).hexdigest(), f"the sha256 of {path}", file["sha256"])
        expect(bool(MODE.fullmatch(file["mode"])), f"four octal digits for {path}", file["mode"])
        expect("owner" not in file or bool(OWNER.fullmatch(file["owner"])), f"uid:gid for {path}", file.get("owner"))


@RIGHT.case("bundle: text travels as content")
def bundle_text(leader: Leader) -> None:
    for file in leader.bundle["files"]:
        if "content_base64" in file:
            try:
                content_of(file).decode()
            except UnicodeDecodeError:
                continue
            expect(b"\0" in content_of(file), f"UTF-8 {file['path']} as content", "content_base64")


@RIGHT.case("bundle: files sorted by path, each once and safe")
def bundle_order(leader: Leader) -> None:
    paths = [file["path"] for file in leader.bundle["files"]]
    expect(paths == sorted(set(paths), key=str.encode), "sorted distinct paths", paths)
    for path in paths:
        safe = not path.startswith("/") and all(part not in ("", ".", "..") for part in path.split("/"))
        expect(safe, "safe relative paths", path)


@RIGHT.case("bundle: ETag is the digest in quotes")
def bundle_etag(leader: Leader) -> None:
    expect(leader.etag == f'"{leader.bundle["digest"]}"', f'"{leader.bundle["digest"]}"', leader.etag)


@RIGHT.case("bundle: own role by name is the same")
def bundle_by_role(leader: Leader) -> None:
    expect(expect_json(leader.get(f"/conf/{leader.role}")) == leader.bundle, "what GET /conf gave", "something else")


@RIGHT.case("bundle: the other follower gets its own")
def bundle_of_other(leader: Leader) -> None:
    bundle = expect_json(leader.get("/conf", signer=leader.other))
    came = (bundle.get("role"), bundle.get("machine"))
    expect(came == (leader.other_role, leader.other.name), f"{leader.other_role} for {leader.other.name}", came)


@RIGHT.case("bundle: the same nonce under two keys")
def nonce_of_two_keys(leader: Leader) -> None:
    nonce = f'"{new_nonce()}"'
    for signer in (leader.me, leader.other):
        expect_status(leader.server.send(sign(Request("GET", "/conf"), signer, nonce=nonce)), 200)


@RIGHT.case("bundle: tar holds the same files")
def bundle_tar(leader: Leader) -> None:
    response = leader.get(f"/conf/{leader.role}", Accept="application/x-tar")
    expect(response.media_type == "application/x-tar", "application/x-tar", response.media_type)
    expect_same_tree(leader.bundle, response.body)


def expect_same_tree(bundle: dict, archive: bytes) -> None:
    wanted = {file["path"]: file for file in bundle["files"]}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        members = tar.getmembers()
        expect(all(one.isfile() or one.isdir() for one in members), "files and folders alone", [one.name for one in members])
        found = {posixpath.normpath(one.name): (one, tar.extractfile(one).read()) for one in members if one.isfile()}
    expect(sorted(found) == sorted(wanted), f"{sorted(wanted)}", sorted(found))
    for path, (member, content) in found.items():
        file = wanted[path]
        expect(content == content_of(file), f"the bytes of {path}", f"{len(content)} others")
        expect(member.mode & 0o7777 == int(file["mode"], 8), f"mode {file['mode']} for {path}", oct(member.mode))
        if "owner" in file:
            expect(f"{member.uid}:{member.gid}" == file["owner"], f"owner {file['owner']}", f"{member.uid}:{member.gid}")


ACCEPTS = [
    ("anything", "*/*", "application/json"),
    ("application/*", "application/*", "application/json"),
    ("JSON over tar", "application/x-tar;q=0.1, application/json", "application/json"),
    ("tar over JSON", "application/json;q=0.1, application/x-tar", "application/x-tar"),
    ("tar over anything", "application/x-tar, */*;q=0.1", "application/x-tar"),
]


def accept_case(name: str, accept: str, wanted: str) -> Case:
    def run(leader: Leader) -> None:
        response = leader.get("/conf", Accept=accept)
        expect(response.media_type == wanted, wanted, response.media_type)

    return Case(f"bundle: Accept of {name}", run)


# Conditional requests and long polling


def not_modified(leader: Leader, condition: str, target: str = "/conf") -> Response:
    response = leader.get(target, 304, If_None_Match=condition)
    expect(response.header("etag") == leader.etag, f"ETag {leader.etag}", response.header("etag"))
    expect(response.trailing == b"", "no content after a 304", response.trailing)
    return response


CONDITIONS = [
    ("own ETag", "{etag}"),
    ("a list with it", '"aaaa", {etag}, "bbbb"'),
    ("it as a weak one", "W/{etag}"),
    ("an asterisk", "*"),
]


def condition_case(name: str, pattern: str) -> Case:
    return Case(f"304: If-None-Match with {name}", lambda leader: not_modified(leader, pattern.format(etag=leader.etag)))


@RIGHT.case("304: not for another ETag")
def modified(leader: Leader) -> None:
    leader.get("/conf", If_None_Match='"' + "0" * 64 + '"')


@RIGHT.case("304: the ETag without quotes matches nothing")
def unquoted(leader: Leader) -> None:
    leader.get("/conf", If_None_Match=leader.etag.strip('"')[:-1] + "0")


@RIGHT.case("wait: 304 when the time is over, not before")
def wait_over(leader: Leader) -> None:
    response = not_modified(leader, leader.etag, "/conf?wait=2s")
    expect(1.9 <= response.seconds < 10, "an answer after 2 s", f"{response.seconds:.2f} s")


@RIGHT.case("wait: on the route with the role as well")
def wait_on_role(leader: Leader) -> None:
    response = not_modified(leader, leader.etag, f"/conf/{leader.role}?wait=1s")
    expect(0.9 <= response.seconds < 10, "an answer after 1 s", f"{response.seconds:.2f} s")


@RIGHT.case("wait: another ETag is answered at once")
def wait_for_stale(leader: Leader) -> None:
    response = leader.get("/conf?wait=10m", If_None_Match='"' + "0" * 64 + '"')
    expect(response.seconds < 10, "an answer at once", f"{response.seconds:.2f} s")


@RIGHT.case("wait: without a condition is answered at once")
def wait_for_nothing(leader: Leader) -> None:
    response = leader.get("/conf?wait=60s")
    expect(response.seconds < 10, "an answer at once", f"{response.seconds:.2f} s")


@RIGHT.case("query: an empty one is signed as ?")
def empty_query(leader: Leader) -> None:
    leader.get("/conf?")


@RIGHT.case("query: escapes are signed as sent")
def escaped_query(leader: Leader) -> None:
    signed, response = leader.ask(Request("GET", "/conf?a=b%20c%2Fd&e=%C3%A9&f"))
    expect_status(response, (200, 400))
    expect_signed(response, signed, leader.me)


# Content codings: Content-Digest is over the encoded bytes (RFC 9530, section 2)


@RIGHT.case("coding: gzip, the digest over the encoded bytes")
def gzip_coding(leader: Leader) -> None:
    response = leader.get("/conf", Accept_Encoding="gzip")
    expect(response.header("content-encoding") == "gzip", "gzip", response.header("content-encoding"))
    expect(json.loads(gzip.decompress(response.body)) == leader.bundle, "the bundle inside", "something else")


@RIGHT.case("coding: zstd, the digest over the encoded bytes")
def zstd_coding(leader: Leader) -> None:
    response = leader.get("/conf", Accept_Encoding="zstd")
    expect(response.header("content-encoding") == "zstd", "zstd", response.header("content-encoding"))
    expect(response.body.startswith(ZSTD_MAGIC), "a zstd frame", response.body[:8])


@RIGHT.case("coding: tar as gzip")
def gzip_tar(leader: Leader) -> None:
    response = leader.get("/conf", Accept="application/x-tar", Accept_Encoding="gzip")
    body = gzip.decompress(response.body) if response.header("content-encoding") == "gzip" else response.body
    expect_same_tree(leader.bundle, body)


CODINGS = [
    ("none asked for", None, {None}),
    ("zstd or gzip", "zstd, gzip", {"zstd", "gzip"}),
    ("gzip over zstd", "zstd;q=0.1, gzip;q=0.9", {"gzip"}),
    ("gzip forbidden", "gzip;q=0", {None}),
    ("only identity", "identity", {None}),
    ("one it can't know", "x-unknown", {None}),
    ("an asterisk and no gzip", "gzip;q=0, *", {"zstd", None}),
]


def coding_case(name: str, accepted: str | None, wanted: set) -> Case:
    def run(leader: Leader) -> None:
        response = leader.get("/conf", **({"Accept_Encoding": accepted} if accepted else {}))
        coding = response.header("content-encoding")
        expect((None if coding == "identity" else coding) in wanted, f"coding {wanted}", coding)

    return Case(f"coding: {name}", run)


@RIGHT.case("coding: Vary names what was negotiated")
def vary(leader: Leader) -> None:
    listed = (leader.get("/conf").header("vary") or "").lower()
    expect(listed == "*" or "accept-encoding" in listed, "Vary with Accept-Encoding", listed or "none")


# One file


@RIGHT.case("file: each is served byte for byte with its type")
def each_file(leader: Leader) -> None:
    for file in leader.bundle["files"][:FILES_FETCHED]:
        response = leader.get(f"/conf/{leader.role}/{quote(file['path'])}")
        expect(response.body == content_of(file), f"the bytes of {file['path']}", shown(response))
        suffix = posixpath.splitext(file["path"])[1]
        wanted = MEDIA_TYPES.get(suffix, {response.media_type} - {""})
        expect(response.media_type in wanted, f"{sorted(wanted) or 'a content type'} for {file['path']}", response.media_type)


@RIGHT.case("status: a report with a signed body")
def report(leader: Leader) -> None:
    leader.status().check_right(leader.status().signed())


@RIGHT.case("status: a report in chunks")
def report_in_chunks(leader: Leader) -> None:
    signature_cases.chunked_body(leader.status())


def right_cases() -> list[Case]:
    return [
        *RIGHT,
        *(accept_case(*row) for row in ACCEPTS),
        *(condition_case(*row) for row in CONDITIONS),
        *(coding_case(*row) for row in CODINGS),
    ]
