"""What stand-ins for HTTP APIs share: a server of this process on a real socket, JSON in and out, that can be stopped and started."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.postgres import free_port


class RecordedApi:
    """Answers by ``answer``. All that it hears is kept as text in ``heard``: request lines, headers and bodies."""

    def __init__(self) -> None:
        self.port, self.heard, self.lock = free_port(), list[str](), threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._open: set[Any] = set()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        """A status, and JSON or ``None``."""
        raise NotImplementedError

    def start(self) -> None:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # an answer in one piece

            def setup(self) -> None:
                super().setup()
                api._open.add(self.connection)

            def finish(self) -> None:
                super().finish()
                api._open.discard(self.connection)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def asked(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.heard.append(f"{self.requestline}\n{self.headers}\n{body.decode()}")
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                with api.lock:
                    status, data = api.answer(self.command, self.path, token, json.loads(body) if body else None)
                out = b"" if data is None else json.dumps(data).encode()
                self.send_response(status)
                if out:
                    self.send_header("Content-Type", "application/json; charset=utf-8")
                if status != 204:
                    self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = asked  # noqa: N815 - the names of the library

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        for connection in list(self._open):
            try:
                connection.shutdown(2)
            except OSError:
                pass
        self._server.server_close()
        self._thread.join(10)
        self._server = None
