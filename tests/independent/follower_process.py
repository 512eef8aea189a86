"""Starts the follower under test in a root of its own and looks at what it does to the disk."""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

from protocol import Signer, encode_key
from runner import Failure

READY = re.compile(r"ready (http://127\.0\.0\.1:[0-9]+)")
LOG_LINES = 5


class FollowerProcess:
    """`BIN follower --root DIR` with a leader's URL, and the folders around it.

    base/root is the follower's root, base/root/pryv what it writes, base/outside what it
    must never reach.
    """

    def __init__(self, binary: str, leader_url: str, signer: Signer, environment: dict[str, str]):
        self.binary, self.leader_url, self.signer = binary, leader_url, signer
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCKSTEP_")} | environment
        self._folder = tempfile.TemporaryDirectory(prefix="follower-")
        self.base = Path(self._folder.name)
        self.root = self.base / "root"
        self.data = self.root / "pryv"
        self.outside = self.base / "outside"
        self.process: subprocess.Popen | None = None
        self.log: list[str] = []
        self.url = ""

    def write_root(self) -> None:
        conf = self.root / "config-follower" / "conf"
        conf.mkdir(parents=True)
        self.data.mkdir()
        self.outside.mkdir()
        (self.outside / "target.txt").write_text("not the follower's\n")
        file = conf / "config-follower.json"
        file.touch(0o600)
        file.write_text(json.dumps(self.configuration(), indent=2))

    def configuration(self) -> dict:
        leader = {"url": self.leader_url, "name": self.signer.name, "key": encode_key(self.signer.key)}
        return {
            "http": {"ip": "127.0.0.1", "port": 0},
            "leader": leader,
            "paths": {"dataFolder": "pryv", "state": "state"},
            "docker": None,
        }

    def start(self, patience: float) -> None:
        self.process = subprocess.Popen(
            [self.binary, "follower", "--root", str(self.root)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
        )
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._drain, args=(self.process.stdout, lines.put), daemon=True).start()
        threading.Thread(target=self._drain, args=(self.process.stderr, self.log.append), daemon=True).start()
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            raise Failure(f"expected a ready line in {patience:g} s, came nothing; {self.last_log()}") from None
        found = READY.fullmatch(line)
        if not found:
            raise Failure(f"expected `ready http://127.0.0.1:PORT`, came {line!r}; {self.last_log()}")
        self.url = found.group(1)

    @staticmethod
    def _drain(stream, put) -> None:
        for line in stream:
            put(line.rstrip("\n"))
        put("")

    def last_log(self) -> str:
        return "its log ends: " + " | ".join(self.log[-LOG_LINES:])

    def stop(self, patience: float) -> int | None:
        """Exit code after a polite request; None if it had to be killed."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.process.terminate()
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def remove(self) -> None:
        self._folder.cleanup()

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # The disk

    def snapshot(self) -> dict[str, tuple]:
        """Everything under base but the follower's own state: kind, mode, content."""
        own = {self.root / "state", self.root / "config-follower"}
        found = {}
        for folder, folders, files in os.walk(self.base):
            here = Path(folder)
            folders[:] = [name for name in folders if here / name not in own]
            for name in [*folders, *files]:
                found[str((here / name).relative_to(self.base))] = described(here / name)
        return found

    def holds(self, files: list[dict]) -> bool:
        return self.difference(files) is None

    def difference(self, files: list[dict]) -> str | None:
        """What is missing or otherwise than these entries say, None if nothing is."""
        for file in files:
            path = self.data / file["path"]
            wanted = ("file", file["mode"], entry_bytes(file))
            came = described(path)
            if came != wanted:
                return f"{file['path']} as {shortly(wanted)}, came {shortly(came)}"
        return None


def entry_bytes(file: dict) -> bytes:
    return file["content"].encode() if "content" in file else base64.b64decode(file["content_base64"])


def described(path: Path) -> tuple:
    """Kind, mode and content; a file may go while it is looked at."""
    try:
        return described_if_there(path)
    except (OSError, ValueError):
        return ("nothing",)


def described_if_there(path: Path) -> tuple:
    info = path.lstat()
    mode = f"{stat.S_IMODE(info.st_mode):04o}"
    if stat.S_ISLNK(info.st_mode):
        return ("symlink", os.readlink(path))
    if stat.S_ISDIR(info.st_mode):
        return ("folder", mode)
    return ("file", mode, path.read_bytes()) if stat.S_ISREG(info.st_mode) else ("other", mode)


def shortly(entry: tuple) -> str:
    return repr(tuple(part[:60] if isinstance(part, bytes) else part for part in entry))


def changes(before: dict[str, tuple], after: dict[str, tuple]) -> list[str]:
    names = sorted(set(before) | set(after))
    return [f"{name}: {shortly(before.get(name, ('nothing',)))} became {shortly(after.get(name, ('nothing',)))}" for name in names if before.get(name) != after.get(name)]
