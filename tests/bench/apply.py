#!/usr/bin/env python3
"""From /notify to durable files and to proven containers: apply.py LOCKSTEP_BIN ROUNDS

A real leader and a real follower; the steps' times are those the follower reports (docs/protocol.md,
"took_ms"); what the engine took for a restart is timed on its way there. One table row a line, as scripts/bench prints.
"""

import base64
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
from engine import Engine

BINARY, ROUNDS = sys.argv[1], int(sys.argv[2])
PROJECT = f"lockstep-bench-{os.getpid()}"
# Seconds between two publications, as people leave between them: a follower is done with the one before.
APART = 1
# Seconds after which a follower that does nothing has given its program's memory back.
IDLE = 12


def row(what: str, ours: str, beside: str = "", ratio: str = "") -> None:
    print(f"{what:<58} {ours:>14} {beside:>14} {ratio:>8}", flush=True)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class Pair:
    """A leader and a follower in a folder of their own."""

    def __init__(self, home: pathlib.Path, role: str, docker: object) -> None:
        self.home, self.processes = home, []
        key = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        follower = {"role": role, "key": key, "url": f"http://127.0.0.1:{port}"}
        self.config("leader", {"http": {"port": 0}, "followers": {"m-1": follower}})
        url = self.start("leader")
        leader = {"url": url, "name": "m-1", "key": key}
        self.config("follower", {"http": {"port": port}, "leader": leader, "docker": docker})
        self.start("follower")
        self.publish()

    def config(self, side: str, value: object) -> None:
        path = self.home / f"config-{side}/conf/config-{side}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_text(json.dumps(value))

    def start(self, side: str) -> str:
        process = subprocess.Popen(
            [BINARY, side, "--root", str(self.home)], stdout=subprocess.PIPE, stderr=(self.home / f"{side}.log").open("w"), text=True
        )
        self.processes.append(process)
        return process.stdout.readline().removeprefix("ready ").strip()

    def run(self, *arguments: str) -> str:
        return subprocess.run([BINARY, *arguments, "--root", str(self.home)], check=True, capture_output=True, text=True).stdout

    def publish(self) -> None:
        self.run("publish", "--yes", "--wait", "--json")

    def set(self, **settings: object) -> None:
        lines = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in settings.items())
        (self.home / "platform.yml").write_text("settings:\n" + lines)

    def status(self) -> dict:
        return json.loads(self.run("status", "--json"))["machines"][0]["status"]

    def apply(self) -> dict:
        status = self.status()
        return status.get("last_change") or status["apply"]

    def memory(self, index: int) -> float:
        text = pathlib.Path(f"/proc/{self.processes[index].pid}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) / 1024

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def until_written(apply: dict) -> float:
    """Milliseconds from the notification to durable files: all steps before the containers' turn."""
    return sum(took for step, took in apply["took_ms"] if step not in ("act", "prove", "act and prove", "report"))


def serially(home: pathlib.Path, data: pathlib.Path) -> float:
    """Milliseconds to write the same files beside, each by itself: temporary file, sync, rename, sync of its folder."""
    contents = [(home / "serial" / file.relative_to(data), file.read_bytes()) for file in data.rglob("*.conf")]
    for path, _ in contents:
        path.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for path, content in contents:
        staged = path.with_name(path.name + ".new")
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    return (time.perf_counter() - start) * 1000


def files(home: pathlib.Path) -> None:
    for count, size, setting, what, pause in [
        (30, 100_000, "ALL", "all changed", APART),
        (30, 100_000, "ALL", "all changed, on and on", 0),
        (70, 592_000, "ALL", "all changed", APART),
        (70, 592_000, "ONE", "one changed", APART),
    ]:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        tree.write(home, "role", count, size)
        pair = Pair(home, "role", None)
        try:
            times, written, serial = [], [], []
            for number in range(ROUNDS if pause == 0 else min(ROUNDS, 30)):
                time.sleep(pause)
                pair.set(**{setting: f"value {number}"})
                pair.publish()
                apply = pair.apply()
                times.append(until_written(apply))
                written.append(sum(took for step, took in apply["took_ms"] if step == "write"))
                if count == 70 and setting == "ALL":
                    serial.append(serially(home, home / "pryv"))
            if serial:
                ours, theirs = quantile(written, 0.5), quantile(serial, 0.5)
                row(f"{count} files, {size // 1000} KB, all changed, made durable: p50, ms", f"{ours:.1f}", f"serial {theirs:.1f}", f"{ours / theirs:.2f}")
            row(f"/notify to durable, {count} files, {size // 1000} KB, {what}: p50, ms", f"{quantile(times, 0.5):.2f}")
            row("  the same: p99, ms", f"{quantile(times, 0.99):.2f}")
            row("follower: memory right then, MB", f"{pair.memory(1):.1f}")
            if setting == "ONE":
                times = []
                for _ in range(min(ROUNDS, 30)):
                    time.sleep(pause)
                    before = pair.status()["apply"]["id"]
                    pair.run("notify")
                    while (apply := pair.status()["apply"])["id"] == before:
                        time.sleep(0.05)
                    times.append(until_written(apply))
                row(f"/notify with nothing changed, {count} files: p50, ms", f"{quantile(times, 0.5):.2f}", "at most 0.8")
                time.sleep(IDLE)
                row("follower: memory once it is idle, MB", f"{pair.memory(1):.1f}", "at most 8")
        finally:
            pair.stop()


def containers(home: pathlib.Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    tree.write(home, "role", 3, 3000)
    templates = home / "templates/role"
    (templates / "role.yml").write_text("files:\n  nginx/**: {on_change: 'signal:HUP'}\n")
    for service in ("nginx", "redis"):
        (templates / service / "conf").mkdir(parents=True)
    (templates / "nginx/conf/nginx.conf.hbs").write_text(
        "pid /run/nginx.pid;\nerror_log /dev/stderr;\nevents {}\nhttp { access_log off; server { listen 80; return 200 '{{ONE}}'; } }\n"
    )
    (templates / "redis/conf/redis.conf.hbs").write_text('save ""\n# {{ALL}}\n')
    (templates / "pryv.yml").write_text(
        "version: '3.5'\nservices:\n"
        + "".join(f"  {service}: {{image: lockstep-test/{service}, volumes: ['./{service}/conf:/app/conf:ro']}}\n" for service in ("nginx", "redis"))
    )
    engine = Engine(home / "engine.sock")
    pair = Pair(home, "role", {"project": PROJECT, "host": f"unix://{home}/engine.sock"})
    try:
        for setting, service, what in [("ONE", "nginx", "signalled"), ("ALL", "redis", "restarted")]:
            times = []
            engine.restarts.clear()
            for number in range(max(10, ROUNDS // 5)):
                pair.set(**{setting: f"v{number}"})
                pair.publish()
                times.append(sum(took for _, took in pair.apply()["took_ms"]))
            ours = quantile(times, 0.5)
            if service == "redis":
                # A restart takes now longer, now shorter: what counts is what each apply took beside its own.
                theirs = quantile(engine.restarts, 0.5)
                more = quantile([time - restart for time, restart in zip(times, engine.restarts, strict=True)], 0.5)
                row(f"/notify to proven, container {what}: p50, ms", f"{ours:.1f}", f"API {theirs:.1f}", f"+{more:.1f}")
            else:
                row(f"/notify to proven, container {what}: p50, ms", f"{ours:.1f}")
    finally:
        pair.stop()
        names = [f"{PROJECT}_{service}_1" for service in ("nginx", "redis")]
        subprocess.run(["docker", "rm", "-fv", *names], capture_output=True, check=False)
        subprocess.run(["docker", "network", "rm", f"{PROJECT}_default"], capture_output=True, check=False)


def main() -> None:
    home = pathlib.Path(tempfile.mkdtemp(prefix="lockstep-bench."))
    try:
        files(home)
        containers(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
