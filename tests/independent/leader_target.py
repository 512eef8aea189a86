"""The leader under test, and what its cases ask of it again and again."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property

from protocol import Signer, sign
from runner import expect_json, expect_problem, expect_signed, expect_status
from signature_cases import Endpoint
from wire import Request, Response, Server


@dataclass(frozen=True)
class Leader:
    """The leader under test and the two followers it knows."""

    server: Server
    me: Signer
    role: str
    other: Signer
    other_role: str
    report: bytes
    report_statuses: tuple[int, ...]

    def ask(self, request: Request, signer: Signer | None = None) -> tuple[Request, Response]:
        signed = sign(request, signer or self.me)
        return signed, self.server.send(signed)

    def get(self, target: str, status: int = 200, signer: Signer | None = None, **headers: str) -> Response:
        """A signed GET whose answer has that status and a right signature."""
        lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
        signed, response = self.ask(Request("GET", target, headers=lines), signer)
        expect_status(response, status)
        expect_signed(response, signed, signer or self.me)
        return response

    def refused(self, request: Request, statuses, signed: str = "signed") -> dict:
        """A rightly signed request that gets this problem."""
        sent, response = self.ask(request)
        body = expect_problem(response, statuses)
        expect_signed(response, sent, self.me, signed)
        return body

    @cached_property
    def bundle(self) -> dict:
        return expect_json(self.get("/conf"))

    @cached_property
    def etag(self) -> str:
        return self.get("/conf").header("etag")

    def conf(self) -> Endpoint:
        return Endpoint(self.server, Request("GET", "/conf"), self.me, self.other, (200,))

    def status(self) -> Endpoint:
        headers = [("Content-Type", "application/json")]
        request = Request("POST", "/status", self.report, headers)
        return Endpoint(self.server, request, self.me, self.other, self.report_statuses)


def content_of(file: dict) -> bytes:
    if "content" in file:
        return file["content"].encode()
    return base64.b64decode(file["content_base64"], validate=True)
