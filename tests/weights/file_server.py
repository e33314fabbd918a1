"""A server of one file on loopback, with the faults that servers and networks have."""

import contextlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """
    content: of the file, at whatever path.
    cuts: for each of the next requests, how many bytes are sent before the connection ends; None:
      all.
    ranges: whether it sends parts of the file.
    status: what it answers; 200 and 206 as is right.
    stated: the length that it states, where that is another.
    shift: how far off the parts are that it sends.
    pause: seconds between the halves of an answer.
    asked: the Range of each request, '' for none.
    """

    def __init__(self, content: bytes):
        self.content = content
        self.cuts: list[int | None] = []
        self.ranges, self.status, self.shift, self.pause = True, 200, 0, 0.0
        self.stated: int | None = None
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(('127.0.0.1', 0), _handler(self))
        self.address = f'http://127.0.0.1:{self._server.server_port}'

    def __enter__(self) -> 'FileServer':
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get('Range', '')
            server.asked.append(asked)
            if server.status != 200:
                return self.send_error(server.status)
            size = len(server.content)
            found = re.fullmatch(r'bytes=(\d+)-', asked) if server.ranges else None
            start = int(found[1]) if found else 0
            if start and start >= size:
                return self.send_error(416)
            self.send_response(206 if found else 200)
            if found:
                start += server.shift
                self.send_header('Content-Range', f'bytes {start}-{size - 1}/{size}')
            stated = size - start if server.stated is None else server.stated
            self.send_header('Content-Length', str(stated))
            self.end_headers()
            cut = server.cuts.pop(0) if server.cuts else None
            body = server.content[start:][:cut]
            with contextlib.suppress(OSError):  # nobody waits for it any more
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(server.pause)
                self.wfile.write(body[len(body) // 2 :])

        def log_message(self, format: str, *args) -> None:
            pass

    return Handler
