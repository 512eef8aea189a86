"""HTTP/1.1 over a bare socket (RFC 9112): messages as values, and exact bytes both ways.

Nothing is tidied up on the way out, so a request can be malformed, slow or too large;
nothing is hidden on the way in, so a test sees what was really sent back. Reading goes on
while writing does, or an early refusal (413, 431) would be lost when the peer closes.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit


class ConnectionEnded(Exception):
    """The peer closed before a whole response came."""


class TookTooLong(Exception):
    """The deadline passed before a whole response came."""


class Headers:
    """What requests and responses share: an ordered list of header lines."""

    headers: list

    def values(self, name: str) -> list[str]:
        return [value.strip() for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        found = self.values(name)
        return ", ".join(found) if found else None

    def adding(self, *pairs):
        return replace(self, headers=[*self.headers, *pairs])

    def without(self, *names: str):
        gone = {name.lower() for name in names}
        return replace(self, headers=[pair for pair in self.headers if pair[0].lower() not in gone])

    def setting(self, name: str, value: str):
        return self.without(name).adding((name, value))


@dataclass(frozen=True)
class Request(Headers):
    method: str
    target: str
    body: bytes = b""
    headers: list = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return "?" + self.target.partition("?")[2]

    def changed(self, **fields) -> Request:
        return replace(self, **fields)

    def head(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def framed(self, authority: str, close: bool = True) -> Request:
        """With Host, Content-Length and Connection where the case didn't set them itself."""
        extra = []
        if self.header("host") is None:
            extra.append(("Host", authority))
        if self.header("content-length") is None and self.header("transfer-encoding") is None:
            if self.body or self.method in ("POST", "PUT", "PATCH"):
                extra.append(("Content-Length", str(len(self.body))))
        if close and self.header("connection") is None:
            extra.append(("Connection", "close"))
        return replace(self, headers=[*extra, *self.headers])

    def wire_body(self) -> bytes:
        if self.header("transfer-encoding") == "chunked":
            half = len(self.body) // 2
            parts = [part for part in (self.body[:half], self.body[half:]) if part]
            return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        return self.body


@dataclass(frozen=True)
class Response(Headers):
    status: int
    headers: list
    body: bytes = b""
    trailing: bytes = b""
    seconds: float = 0.0

    @property
    def media_type(self) -> str:
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Server:
    """Where the peer listens, and the longest a whole exchange may take."""

    host: str
    port: int
    patience: float = 30.0
    #: The file of the one authority that is believed, where TLS is spoken.
    authority_file: str | None = None

    @staticmethod
    def at(url: str, patience: float = 30.0, authority_file: str | None = None) -> Server:
        parts = urlsplit(url)
        return Server(parts.hostname, parts.port or 80, patience, authority_file)

    def connect(self) -> socket.socket:
        """A connection; over TLS 1.3 to whom that authority calls the leader, whatever the address."""
        plain = socket.create_connection((self.host, self.port), timeout=self.patience)
        if self.authority_file is None:
            return plain
        context = ssl.create_default_context(cafile=self.authority_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context.wrap_socket(plain, server_hostname="leader.lockstep.internal")

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"

    def send(self, request: Request) -> Response:
        """One request on a connection of its own, read to the end of that connection."""
        framed = request.framed(self.authority)
        with Connection(self) as connection:
            connection.write(framed.head() + framed.wire_body())
            return connection.read(framed.method, to_end=True)

    def send_bytes(self, raw: bytes) -> Response:
        with Connection(self) as connection:
            connection.write(raw)
            return connection.read("GET")


class Connection:
    def __init__(self, server: Server):
        self.server = server
        self.started = time.monotonic()
        self.deadline = self.started + server.patience
        self.socket = server.connect()
        self.socket.setblocking(False)
        self.received = b""
        self.ended = False
        self.refused_writing = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_):
        self.socket.close()

    def remaining(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TookTooLong(f"no whole answer in {self.server.patience:g} s, got {self.received[:80]!r}")
        return left

    def write(self, data: bytes) -> None:
        """Send all of it, or as much as the peer takes before it refuses."""
        view = memoryview(data)
        while view and not self.refused_writing:
            wants_read = [] if self.ended else [self.socket]
            readable, writable, _ = select.select(wants_read, [self.socket], [], self.remaining())
            if readable:
                self._receive()
            if writable:
                view = view[self._send(view) :]

    def _send(self, view: memoryview) -> int:
        try:
            return self.socket.send(view)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.refused_writing = True
            return 0

    def _receive(self) -> None:
        try:
            data = self.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        self.received += data
        self.ended = self.ended or not data

    def more(self) -> None:
        """Wait for more bytes, or find that none will come."""
        if self.ended:
            raise ConnectionEnded(f"closed after {self.received[:80]!r}")
        if self._readable(self.remaining()):
            self._receive()

    def _readable(self, seconds: float) -> bool:
        """Also for what TLS has read and not given out yet: no select says that."""
        pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0
        return pending or bool(select.select([self.socket], [], [], seconds)[0])

    def heard_within(self, seconds: float) -> bool:
        """Whether the peer says anything (or closes) in that time."""
        if not self.ended and self._readable(seconds):
            self._receive()
            return True
        return self.ended

    def read(self, method: str, to_end: bool = False) -> Response:
        while True:
            status, headers = self._read_head()
            if status >= 200:
                break
        body = self._read_body(method, status, Response(status, headers))
        response = Response(status, headers, body, b"", time.monotonic() - self.started)
        if to_end and (response.header("connection") or "").lower() == "close":
            self._read_to_end()
            response = replace(response, trailing=self.received)
        return response

    def _read_head(self) -> tuple[int, list]:
        while b"\r\n\r\n" not in self.received:
            self.more()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ConnectionEnded(f"not an HTTP/1 status line: {lines[0]!r}")
        headers = [tuple(part.strip() for part in line.partition(":")[::2]) for line in lines[1:]]
        return int(rest[:3]), headers

    def _read_body(self, method: str, status: int, head: Response) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if (head.header("transfer-encoding") or "").lower() == "chunked":
            return self._read_chunks()
        length = head.header("content-length")
        if length is None:
            self._read_to_end()
            body, self.received = self.received, b""
            return body
        return self._read_exactly(int(length))

    def _read_exactly(self, length: int) -> bytes:
        while len(self.received) < length:
            self.more()
        body, self.received = self.received[:length], self.received[length:]
        return body

    def _read_line(self) -> bytes:
        while b"\r\n" not in self.received:
            self.more()
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._read_line().partition(b";")[0], 16):
            body += self._read_exactly(size)
            self._read_line()
        while self._read_line():
            pass
        return body

    def _read_to_end(self) -> None:
        while not self.ended:
            self.more()
