"""A real HTTP server on a loopback port that misbehaves on request."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Answers by path; remembers the requests as (path, Range header)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str]] = []
        self.released = threading.Event()
        """Set at the end, so that silent answers do not outlive the test."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Range", "")))
                with contextlib.suppress(OSError):
                    outer.answers.get(self.path, status(404))(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def asked(self, path: str) -> list[str]:
        """The Range headers of the requests for one path."""
        return [span for each, span in self.requests if each == path]


@contextlib.contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def whole(content: bytes, *, ranges: bool = True, tag: bool = True, pause: float = 0.0) -> Answer:
    """The file as an ordinary server gives it; `pause` seconds between pieces of 64 KiB."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _send(request, content, len(content), ranges=ranges, tag=tag, pause=pause)

    return answer


def breaking(content: bytes, after: int, *, times: int = 1, ranges: bool = True) -> Answer:
    """The connection ends `after` bytes of the body, `times` times; then the whole file."""
    left = [times]

    def answer(request: BaseHTTPRequestHandler) -> None:
        left[0] -= 1
        _send(request, content, after if left[0] >= 0 else len(content), ranges=ranges)
        if left[0] >= 0:
            request.close_connection = True

    return answer


def status(code: int, *, times: int = 10**9, then: Answer | None = None) -> Answer:
    """An error, `times` times; `then` another answer."""
    left = [times]

    def answer(request: BaseHTTPRequestHandler) -> None:
        left[0] -= 1
        if left[0] < 0 and then is not None:
            then(request)
            return
        request.send_response(code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def page(text: str = "<!DOCTYPE html><html><body>Not here any more</body></html>") -> Answer:
    """A web page that claims to be a picture."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "image/jpeg")
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text.encode())

    return answer


def silence(server: Server) -> Answer:
    """Takes the request and never answers."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        server.released.wait()
        request.close_connection = True

    return answer


def together(barrier: threading.Barrier, then: Answer) -> Answer:
    """Waits for the others of the barrier before it answers."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        barrier.wait()
        then(request)

    return answer


def trickle(server: Server, content: bytes, *, in_head: bool = False) -> Answer:
    """One byte every tenth of a second: no single wait is long, the whole would take for ever."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        if in_head:
            head, body = b"", b"HTTP/1.1 200 OK\r\nX-Endless: " + b"x" * 100_000
        else:
            body = content
        request.wfile.write(head)
        for position in range(len(body)):
            if server.released.is_set():
                return
            request.wfile.write(body[position : position + 1])
            request.wfile.flush()
            time.sleep(0.1)

    return answer


def redirect(to: str) -> Answer:
    """Elsewhere; to itself, it is a loop."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def _send(
    request: BaseHTTPRequestHandler,
    content: bytes,
    until: int,
    *,
    ranges: bool = True,
    tag: bool = True,
    pause: float = 0.0,
) -> None:
    name = f'"{hashlib.md5(content).hexdigest()}"'
    start = 0
    asked = request.headers.get("Range", "")
    if ranges and asked and request.headers.get("If-Range", name) == name:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    if tag:
        request.send_header("ETag", name)
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    for position in range(start, max(start, until), 65536):
        request.wfile.write(content[position : min(position + 65536, until)])
        request.wfile.flush()
        time.sleep(pause)
