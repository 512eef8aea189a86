"""The follower under test between its fake leader and its disk, and what the cases do with it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from fake_leader import FakeLeader, Offer, file_entry, make_bundle
from follower_process import FollowerProcess, changes
from protocol import Signer, sign
from runner import Failure, expect, expect_json, expect_signed, expect_status
from signature_cases import Endpoint
from wire import Request, Server

ROLE = "core"
SETTLING = 10


@dataclass
class Setting:
    """The follower under test, its fake leader, and the bundle that should be on disk."""

    leader: FakeLeader
    process: FollowerProcess
    me: Signer
    patience: float
    verbose: bool
    revision: int = 0

    @property
    def server(self) -> Server:
        return Server.at(self.process.url, self.patience)

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def offer(self, files: list[dict], name: str = "good", **more) -> Offer:
        bundle = make_bundle(self.me.name, ROLE, self.next_revision(), files)
        offer = Offer.of(name, bundle, **more)
        self.leader.offer(offer, self.me.name)
        return offer

    def marker(self) -> list[dict]:
        """Files of no other bundle, so that seeing them means this one was applied."""
        return [file_entry("web/conf/marker.txt", f"revision {self.revision + 1}\n"), file_entry("pryv.yml", "services: {}\n")]

    def notify(self) -> str:
        request = sign(self.notification(), self.me)
        response = self.server.send(request)
        expect_status(response, 202)
        expect_signed(response, request, self.me)
        apply = expect_json(response)
        expect(isinstance(apply, dict) and isinstance(apply.get("apply"), str) and apply["apply"], "an apply id", apply)
        return apply["apply"]

    def notification(self, **more) -> Request:
        body = json.dumps({"revision": self.revision} | more).encode()
        return Request("POST", "/notify", body, [("Content-Type", "application/json")])

    def notify_endpoint(self) -> Endpoint:
        return Endpoint(self.server, self.notification(), self.me, Signer("core-2", bytes(range(32))), (202,))

    def expect_on_disk(self, files: list[dict]) -> None:
        if not self.leader.wait_until(lambda: self.process.holds(files), self.patience):
            expect(False, self.process.difference(files), self.process.last_log())

    def apply(self, files: list[dict], **more) -> Offer:
        """A good bundle, told by a notification, until it is on disk."""
        offer = self.offer(files, **more)
        self.notify()
        self.expect_on_disk(files)
        return offer

    def wait_for(self, kind: str, since: int, what: str, matches=lambda value: True):
        event = self.leader.wait_for(kind, since, self.patience, matches)
        expect(event is not None, what, f"nothing of it in {self.patience:g} s; {self.process.last_log()}")
        return event

    def settled(self) -> None:
        """Returns when an attempt that was under way is over: a notification starts another after it."""
        mark = self.leader.mark()
        self.notify()
        self.wait_for("get", mark, "another GET /conf after the notification")

    def expect_well(self) -> None:
        expect(self.process.is_running(), "a running follower", self.process.last_log())
        expect_status(self.server.send(Request("GET", "/healthz")), 200)

    def stable(self, view) -> dict:
        """What `view` shows of the disk once nothing moves there any more."""
        seen = view(self.process)
        for _ in range(SETTLING):
            self.settled()
            before, seen = seen, view(self.process)
            if before == seen:
                return seen
        raise Failure(f"expected a quiet disk after one good bundle, came {changes(before, seen)[:5]}")

    def expect_unchanged(self, before: dict, view) -> None:
        """A good bundle being put back again may be seen half way, so it is looked at until all is as before."""
        if not self.leader.wait_until(lambda: view(self.process) == before, self.patience):
            expect(False, "nothing changed on disk", "; ".join(changes(before, view(self.process))[:5]))

    def recover(self) -> None:
        """A good bundle is still taken."""
        self.apply([*self.marker(), file_entry("web/conf/after.txt", secrets.token_hex(8))])

    def show(self, name: str, report: object) -> None:
        if self.verbose:
            print(f"     report after {name}: {json.dumps(report, ensure_ascii=False)}")
