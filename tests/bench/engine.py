"""A way to the engine that times the restarts which pass through it."""

import pathlib
import socket
import threading
import time

ENGINE = "/var/run/docker.sock"


class Engine:
    """Listens at a socket of its own, passes everything on, and keeps how long the engine took for each restart."""

    def __init__(self, path: pathlib.Path) -> None:
        self.restarts: list[float] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            engine, asked = socket.socket(socket.AF_UNIX), []
            engine.connect(ENGINE)
            for ends in ((client, engine), (engine, client)):
                threading.Thread(target=self.pass_on, args=(*ends, asked), daemon=True).start()

    def pass_on(self, source: socket.socket, target: socket.socket, asked: list[float]) -> None:
        """`asked` has the time at which this connection asked for a restart, until it is answered."""
        while data := source.recv(65536):
            if data.startswith(b"POST ") and b"/restart" in data.split(b" ", 2)[1]:
                asked.append(time.perf_counter())
            elif data.startswith(b"HTTP/") and asked:
                self.restarts.append((time.perf_counter() - asked.pop()) * 1000)
            try:
                target.sendall(data)
            except OSError:
                break
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
