#!/usr/bin/env python3
"""From publish to the last of a hundred followers' files: fleet.py LOCKSTEP_BIN ROUNDS BARE

A real leader and a hundred real followers on this machine, files only, 60 KB that all change: in one file, and in
ten. The time of a round ends with the last rename (the inode's change time) at the last follower; before it stands the
sync of its journal. Nobody looks until a second later.
Beside it, in rows of its own, BARE (bare.c): as many processes that do nothing but write, in the plainest way, on the
same disk. It is no lower bound: it makes each file anew, which some disks take long for.
"""

import base64
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import tree
from apply import BINARY, ROUNDS, quantile, row

FOLLOWERS, BYTES = 100, 60_000


class Admin(http.client.HTTPConnection):
    """The leader's API, over its socket."""

    def __init__(self, home: pathlib.Path) -> None:
        super().__init__("leader")
        self.path = str(home / "state/leader.sock")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def publish(self) -> None:
        self.request("POST", "/admin/publish", "{}", {"Content-Type": "application/json"})
        answer = self.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"publish: {answer.status} {body.decode()}")


def start(side: str, home: pathlib.Path) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen(
        [BINARY, side, "--root", str(home)], stdout=subprocess.PIPE, stderr=(home / f"{side}.log").open("w"), text=True
    )
    return process, process.stdout.readline().removeprefix("ready ").strip()


def config(home: pathlib.Path, side: str, value: object) -> None:
    path = home / f"config-{side}/conf/config-{side}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    path.write_text(json.dumps(value))


def shows(folder: pathlib.Path, count: int, wanted: str) -> bool:
    files = list(folder.rglob("*.conf"))
    return len(files) == count and all(wanted in file.read_text() for file in files)


def bare(home: pathlib.Path, count: int, rounds: int) -> list[float]:
    """What each round takes, in ms."""
    home.mkdir()
    counts = [str(number) for number in (FOLLOWERS, count, BYTES, rounds)]
    done = subprocess.run([sys.argv[3], str(home), *counts], check=True, stdout=subprocess.PIPE, text=True)
    return [float(line) for line in done.stdout.split()]


def measure(count: int) -> None:
    """The rows for so many files."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-fleet."))
    processes = []
    try:
        leader_home = home / "leader"
        tree.write(leader_home, "role", count, BYTES)
        names = [f"m-{number}" for number in range(FOLLOWERS)]
        keys = {name: base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=") for name in names}
        followers = {name: {"role": "role", "key": key} for name, key in keys.items()}
        config(leader_home, "leader", {"http": {"port": 0}, "followers": followers})
        leader, url = start("leader", leader_home)
        processes.append(leader)
        for name in names:
            config(home / name, "follower", {"http": {"port": 0}, "leader": {"url": url, "name": name, "key": keys[name]}, "docker": None})
            processes.append(start("follower", home / name)[0])
        folders = [home / name / "pryv" for name in names]
        admin, times = Admin(leader_home), []
        for number in range(-2, ROUNDS):
            wanted = "zero" if number == -2 else f"value-{number}"
            began = time.time_ns()
            if number > -2:
                (leader_home / "platform.yml").write_text(f"settings:\n  ALL: {wanted}\n")
                began = time.time_ns()
                admin.publish()
                time.sleep(1)
            waiting = folders
            while waiting := [folder for folder in waiting if not shows(folder, count, wanted)]:
                time.sleep(0.05)
            # All hold their requests again, and what they make durable later is durable.
            time.sleep(5)
            if number >= 0:
                last = max(file.stat().st_ctime_ns for folder in folders for file in folder.rglob("*.conf"))
                times.append((last - began) / 1e6)
        plain = bare(home / "bare", count, ROUNDS)
        for share, most in ((0.5, 20), (0.99, 35)):
            value, beside = quantile(times, share), quantile(plain, share)
            row(f"publish to the last of {FOLLOWERS} followers' {count} file{'s' * (count > 1)}: p{share * 100:.0f}, ms", f"{value:.1f}", f"at most {most}", f"{value / most:.2f}")
            row("  the same, beside bare C", f"{value:.1f}", f"{beside:.1f}", f"{value / beside:.2f}")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    for files in (1, 10):
        measure(files)
