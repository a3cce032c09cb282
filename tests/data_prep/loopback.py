"""A server on 127.0.0.1 that misbehaves as it is told."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from data_prep.sources.remote import RemoteFiles

DATA = np.random.default_rng(0).bytes(1_000_000)
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()


@dataclass
class Script:
    """What the server does.

    `files` by path; `faults` are taken from the front, one for each request, and then all goes well: "cut",
    "stall", "drip" (byte by byte), "mute" (no answer at all), "html", "sneaky html", "wrong range", a status
    as a number, or a path to redirect to. `log` has the path and Range header of each request.
    """

    files: dict[str, bytes]
    faults: list[str | int] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"one"'
    size_known: bool = True
    address: str = ""
    log: list[tuple[str, str | None]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(script: Script) -> Iterator[Script]:
    """Serve while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            script.log.append((self.path, self.headers.get("Range")))
            answer(self, script)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    script.address = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, script: Script) -> None:
    fault = script.faults.pop(0) if script.faults else ""
    if isinstance(fault, int):
        handler.send_error(fault)
        return
    if fault.startswith("/"):
        handler.send_response(302)
        handler.send_header("Location", fault)
        handler.end_headers()
        return
    if "html" in fault:
        send(handler, 200, b"\n<!DOCTYPE html><html>log in</html>", {} if "sneaky" in fault else HTML)
        return
    if handler.path not in script.files:
        handler.send_error(404)
        return
    send_file(handler, script, fault)


HTML = {"Content-Type": "text/html; charset=utf-8"}


def send_file(handler: BaseHTTPRequestHandler, script: Script, fault: str) -> None:
    data = script.files[handler.path]
    headers = {"ETag": script.tag} if script.tag else {}
    status, first = 200, 0
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
    condition = handler.headers.get("If-Range")
    if wanted and script.ranges and condition in (None, script.tag):
        status, first = 206, int(wanted[1]) - (fault == "wrong range")
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
    body = data[first:]
    headers["Content-Length"] = str(len(body)) if script.size_known else ""
    if fault == "mute":
        script.over.wait(20)
        return
    if fault not in ("cut", "stall", "drip"):
        send(handler, status, body, headers)
        return
    send(handler, status, body[: max(len(body) // 2, 1)], headers)
    if fault == "stall":
        script.over.wait(20)
    if fault == "drip":
        with suppress(OSError):  # the client has gone
            for byte in body[len(body) // 2 :]:
                handler.wfile.write(bytes([byte]))
                if script.over.wait(0.02):
                    return


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def files_of(server: Script, checksum: str | None = MD5) -> RemoteFiles:
    """Return what a server has, with the published checksum or none."""
    return RemoteFiles("some", server.address, {"data.bin": checksum})
