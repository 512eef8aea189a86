"""What the fake leader and the fake follower share: a threaded HTTP server with bounds.

Reads signed requests within limits (header and body seconds, body size), verifies them,
answers problems (RFC 9457) and signs answers to rightly signed requests (RFC 9421
section 2.4). Routing and content are the subclass's.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocol import PROBLEM, Nonces, Refused, Signer, content_digest, sign_response, verify_request
from wire import Request, Response


@dataclass(frozen=True)
class Limits:
    header_seconds: float = 5.0
    body_seconds: float = 5.0
    body_bytes: int = 1 << 20


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: list = field(default_factory=list)


class Problem(Exception):
    """Ends a request with a problem document."""

    def __init__(self, status: int, kind: str, detail: str, headers=(), **members):
        super().__init__(detail)
        self.status = status
        self.headers = list(headers)
        self.document = {"type": PROBLEM + kind, "title": kind.replace("-", " "), "status": status, "detail": detail} | members

    def answer(self) -> Answer:
        return Answer(self.status, json.dumps(self.document).encode(), [("Content-Type", "application/problem+json"), *self.headers])


def json_answer(status: int, value: object, *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), [("Content-Type", "application/json"), *headers])


def parse_json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid-body", f"not JSON: {type(error).__name__}") from error


class DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline, however slowly the bytes come."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.deadline = float("inf")

    def readable(self) -> bool:
        return True

    def allow(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def readinto(self, buffer) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(min(left, 3600))
        return self.sock.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def setup(self):
        super().setup()
        self.deadlines = DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self.deadlines)

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        self.deadlines.allow(self.server.limits.header_seconds)
        try:
            super().handle_one_request()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    def send_error(self, code, message=None, explain=None):
        """Called by the parser as well: 400, 414, 431 and unknown methods."""
        self.close_connection = True
        self.send_answer(Problem(405 if code == 501 else code, "request", message or "refused").answer())

    def __getattr__(self, name: str):
        if name.startswith("do_"):
            return self.respond
        raise AttributeError(name)

    def respond(self):
        try:
            request = self.read_request()
        except Problem as problem:
            self.close_connection = True
            return self.send_answer(problem.answer())
        except TimeoutError:
            self.close_connection = True
            return self.send_answer(Problem(408, "timeout", "the body took too long").answer())
        self.server.serve(self, request)

    def read_request(self) -> Request:
        lengths = self.headers.get_all("Content-Length", [])
        if len(set(lengths)) > 1:
            raise Problem(400, "request", "two lengths")
        self.deadlines.allow(self.server.limits.body_seconds)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.read_chunks()
        else:
            body = self.read_length(int(lengths[0]) if lengths else 0)
        return Request(self.command, self.path, body, list(self.headers.items()))

    def read_length(self, length: int) -> bytes:
        if length > self.server.limits.body_bytes:
            raise Problem(413, "too-large", "the body is too large")
        return self.rfile.read(length)

    def read_chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.read_length(size)
            self.rfile.readline()
            if len(body) > self.server.limits.body_bytes:
                raise Problem(413, "too-large", "the body is too large")
        self.rfile.readline()
        return body

    def send_answer(self, answer: Answer | Response, cut: int | None = None):
        """The bytes of an answer; `cut` says how many of the body's are really sent."""
        self.connection.settimeout(None)
        headers = [f"{name}: {value}" for name, value in answer.headers]
        if answer.status != 304:
            headers.append(f"Content-Length: {len(answer.body)}")
        if self.close_connection:
            headers.append("Connection: close")
        head = "\r\n".join([f"HTTP/1.1 {answer.status} X", *headers]) + "\r\n\r\n"
        self.wfile.write(head.encode("latin-1") + answer.body[:cut])
        self.wfile.flush()


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, signers: list[Signer], limits: Limits):
        super().__init__(("127.0.0.1", 0), Handler)
        self.signers = {signer.name: signer for signer in signers}
        self.limits = limits
        self.nonces = Nonces()
        self.clock_offset = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def clock(self) -> int:
        return int(time.time()) + self.clock_offset

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    def serve(self, handler: Handler, request: Request) -> None:
        """Verify, route, sign, send."""
        try:
            signer, label = verify_request(request, self.signers, self.nonces, self.clock())
        except Refused as refused:
            return self.refuse(handler, request, refused)
        try:
            answer = self.route(request, signer)
        except Problem as problem:
            answer = problem.answer()
        handler.send_answer(self.signed(answer, request, label, signer))

    def refuse(self, handler: Handler, request: Request, refused: Refused) -> None:
        self.note_refused(request, refused)
        members = {"server_time": self.clock()} if refused.kind == "clock-skew" else {}
        answer = Problem(401, refused.kind, refused.why if refused.label else refused.kind, **members).answer()
        if refused.label is None:
            return handler.send_answer(answer)
        signer = next(one for name, one in self.signers.items() if f'keyid="{name}"' in request.header("signature-input"))
        handler.send_answer(self.signed(answer, request, refused.label, signer))

    def signed(self, answer: Answer, request: Request, label: str, signer: Signer) -> Response:
        digest = [] if answer.status == 304 else [("Content-Digest", content_digest(answer.body))]
        response = Response(answer.status, [*answer.headers, *digest], answer.body)
        return sign_response(response, request, label, signer, self.clock())

    def note_refused(self, request: Request, refused: Refused) -> None:
        """For subclasses that count what came wrong."""

    def route(self, request: Request, signer: Signer) -> Answer:
        raise NotImplementedError
