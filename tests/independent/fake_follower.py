#!/usr/bin/env python3
"""A small follower by the protocol page, for trying `follower.py` without the real one.

    fake_follower.py follower --root DIR

It checks a bundle whole before writing it and writes plainly: no journal, no undoing, no
ownership, no Docker. Good enough to pass the table, and to spoil by hand to see it fail.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

from fake_server import Answer, FakeServer, Limits, Problem, json_answer, parse_json
from protocol import Signer, digest_problem, now, response_signature_problem, sign
from wire import Request, Response, Server

LONGEST_PATH, LONGEST_PART = 1024, 255


class Untrue(Exception):
    """An answer or a bundle that isn't to be believed."""


def demand(holds: bool, why: str) -> None:
    if not holds:
        raise Untrue(why)


class Puller:
    def __init__(self, root: Path, configuration: dict):
        leader = configuration["leader"]
        self.signer = Signer.from_text(leader["name"], leader["key"])
        self.server = Server.at(leader["url"], 90)
        self.data = root / configuration["paths"]["dataFolder"]
        self.written: set[str] = set()
        self.etag: str | None = None
        self.offset = 0
        self.lock = threading.Lock()
        self.wake = threading.Event()

    def ask(self, request: Request) -> Response:
        signed = sign(request, self.signer, created=str(now() + self.offset))
        response = self.server.send(signed)
        problem = response_signature_problem(response, signed, self.signer) or digest_problem(response)
        demand(problem is None, str(problem))
        if response.status == 401 and json.loads(response.body)["type"].endswith("clock-skew"):
            self.offset = json.loads(response.body)["server_time"] - now()
            raise Untrue("clock corrected")
        return response

    def pull(self, wait: bool) -> None:
        condition = [("If-None-Match", self.etag)] if self.etag else []
        target = "/conf?wait=60s" if wait and self.etag else "/conf"
        response = self.ask(Request("GET", target, headers=[("Accept-Encoding", "gzip"), *condition]))
        if response.status == 304:
            return
        demand(response.status == 200, f"status {response.status}")
        body = gzip.decompress(response.body) if response.header("content-encoding") == "gzip" else response.body
        with self.lock:
            self.apply(checked_bundle(body, self.signer.name, self.data))
            self.etag = response.header("etag")
        self.report("applied")

    def apply(self, bundle: dict) -> None:
        paths = {file["path"] for file in bundle["files"]}
        for path in self.written - paths:
            (self.data / path).unlink(missing_ok=True)
        for file in bundle["files"]:
            self.write(self.data / file["path"], bytes_of(file), int(file["mode"], 8))
        self.written = paths

    def write(self, target: Path, content: bytes, mode: int) -> None:
        for folder in reversed(target.parents):
            if folder.is_file():
                folder.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rmdir()
        staged = target.with_name(f".{hashlib.sha256(target.name.encode()).hexdigest()[:12]}")
        staged.write_bytes(content)
        staged.chmod(mode)
        staged.rename(target)

    def report(self, state: str, why: str | None = None) -> None:
        body = json.dumps({"state": state, "detail": why, "docker": None}).encode()
        self.ask(Request("POST", "/status", body, [("Content-Type", "application/json")]))

    def attempt(self, wait: bool) -> bool:
        try:
            self.pull(wait)
            return True
        except Exception as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            why = str(error)
        try:
            self.report("failed", why)
        except Exception as error:
            print(f"unreported: {error}", file=sys.stderr, flush=True)
        return False

    def poll_forever(self) -> None:
        while True:
            if not self.attempt(wait=True):
                self.wake.wait(5)
                self.wake.clear()

    def follow_notifications(self, asked: threading.Event) -> None:
        while True:
            asked.wait()
            asked.clear()
            self.attempt(wait=False)
            self.wake.set()


def checked_bundle(body: bytes, machine: str, data: Path) -> dict:
    try:
        bundle = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Untrue(f"not JSON: {type(error).__name__}") from error
    demand(isinstance(bundle, dict), "not an object")
    demand(bundle.get("machine") == machine, "another machine's bundle")
    demand(type(bundle.get("role")) is str and re.fullmatch(r"[a-z0-9-]+", bundle["role"]) is not None, "role")
    demand(type(bundle.get("revision")) is int and type(bundle.get("digest")) is str, "revision or digest")
    demand(type(bundle.get("files")) is list, "files")
    paths = [check_file(file) for file in bundle["files"]]
    demand(len(set(paths)) == len(paths), "a path twice")
    for path in paths:
        check_place(path, set(paths), data)
    return bundle


def check_file(file: dict) -> str:
    path, mode = file.get("path"), file.get("mode")
    demand(type(path) is str and 0 < len(path.encode()) <= LONGEST_PATH and "\0" not in path, "path")
    for part in path.split("/"):
        demand(part not in ("", ".", "..") and len(part.encode()) <= LONGEST_PART, f"path {path!r}")
    demand(type(mode) is str and re.fullmatch("0[0-7]{3}", mode) is not None, "mode")
    demand("owner" not in file or re.fullmatch("[0-9]+:[0-9]+", str(file["owner"])) is not None, "owner")
    demand(("content" in file) != ("content_base64" in file), "content")
    content = bytes_of(file)
    demand(file.get("size") == len(content) and file.get("sha256") == hashlib.sha256(content).hexdigest(), "size or sha256")
    return path


def check_place(path: str, paths: set[str], data: Path) -> None:
    """No link on the way, no other entry's file on the way, and no person's folder in place."""
    parts = path.split("/")
    for length in range(1, len(parts)):
        above = "/".join(parts[:length])
        demand(above not in paths and not (data / above).is_symlink(), f"{above} is no folder")
    folder = data / path
    demand(not folder.is_dir() or folder.is_symlink() or is_removable(folder), f"{path} is a folder")


def is_removable(folder: Path) -> bool:
    return all(child.name == "inner.txt" for child in folder.iterdir())


def bytes_of(file: dict) -> bytes:
    return file["content"].encode() if "content" in file else base64.b64decode(file["content_base64"], validate=True)


class FollowerServer(FakeServer):
    def __init__(self, puller: Puller, limits: Limits):
        super().__init__([puller.signer], limits)
        self.asked = threading.Event()

    def serve(self, handler, request: Request) -> None:
        if request.path in ("/healthz", "/metrics", "/status"):
            return handler.send_answer(json_answer(200, {"ok": True}))
        super().serve(handler, request)

    def route(self, request: Request, signer: Signer) -> Answer:
        if request.path != "/notify":
            raise Problem(404, "not-found", "no such route")
        if request.method != "POST":
            raise Problem(405, "method", "only POST", [("Allow", "POST")])
        notification = parse_json(request.body)
        revision = notification.get("revision") if isinstance(notification, dict) else None
        if type(revision) is not int or revision < 0 or type(notification.get("services", [])) is not list:
            raise Problem(422, "invalid-body", "not a notification")
        self.asked.set()
        return json_answer(202, {"apply": os.urandom(4).hex()})


def limits_of_environment() -> Limits:
    seconds = [float(os.environ.get(f"LOCKSTEP_LIMITS__{name}_SECONDS", "5")) for name in ("HEADER", "BODY")]
    return Limits(*seconds)


def main() -> None:
    root = Path(sys.argv[sys.argv.index("--root") + 1])
    configuration = json.loads((root / "config-follower/conf/config-follower.json").read_text())
    puller = Puller(root, configuration)
    server = FollowerServer(puller, limits_of_environment())
    server.start()
    for run in (puller.poll_forever, lambda: puller.follow_notifications(server.asked)):
        threading.Thread(target=run, daemon=True).start()
    print(f"ready {server.url}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
