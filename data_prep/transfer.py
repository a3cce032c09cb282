"""One file over HTTP, however often the connection is cut: what pooch downloads with."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import urllib3

from data_prep.http_answer import Answer, Stalled

# An attempt that got this much further is no failure: large files arrive over bad connections too.
_HEADWAY = 1 << 16

_RETRIED = {408, 425, 429}  # timeout, too early, too many requests; and all from 500 on
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)

# What no second attempt would change; the base classes below mean the network.
_HOPELESS = (
    requests.exceptions.TooManyRedirects,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.SSLError,
)

OnBytes = Callable[[int, int], None]
"""Called as on_bytes(bytes there, bytes in all)."""


class TransferError(Exception):
    """The file did not come; says why in a few words."""


class _Interrupted(Exception):
    """An attempt failed in a way that another one may not."""


class Transfer:
    """A downloader for pooch: resumes what was cut, in this process or an earlier one.

    The bytes are collected in `part`; a JSON file beside it says which file they belong to: its address, size
    and the server's ETag or date. A connection that sends nothing for `timeout` seconds, or next to nothing
    for `patience` seconds, is given up. After a failed attempt, the next follows in `wait` seconds, then in
    twice as many; `attempts` without progress, one after another, raise TransferError. OSError comes from
    writing `part`.

    A file for which the server gives neither ETag nor date is resumed only if a published checksum is
    compared afterwards (`checked`); one without a size never.

    `resumed` says whether the file was put together from several answers.
    """

    def __init__(
        self,
        part: Path,
        on_bytes: OnBytes,
        timeout: float,
        attempts: int,
        wait: float,
        patience: float,
        checked: bool,
    ) -> None:
        self.resumed = False
        self._checked = checked
        self._part = part
        self._identity = part.with_name(part.name + ".json")
        self._on_bytes = on_bytes
        self._timeout = timeout
        self._attempts = attempts
        self._wait = wait
        self._patience = patience

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Download `url` to `output_file`; called by pooch."""
        failures = 0
        while True:
            before = self._size()
            try:
                self._attempt(url)
                break
            except _Interrupted as error:
                failures = 1 if self._size() >= before + _HEADWAY else failures + 1
                if failures >= self._attempts:
                    raise TransferError(str(error)) from error
            time.sleep(self._wait * 2 ** (failures - 1))
        self._part.replace(output_file)
        self._identity.unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _attempt(self, url: str) -> None:
        """Ask for the file, or what is missing of it, and read the answer to its end."""
        known = self._known(url)
        start = self._size() if known else 0
        if known and start == known["total"]:
            return
        headers = {"Accept-Encoding": "identity"}  # the bytes of the file, not packed for the way
        if start:
            headers["Range"] = f"bytes={start}-"
            if known["tag"]:
                headers["If-Range"] = known["tag"]  # another file comes whole
        try:
            with Answer(url, headers, self._timeout, self._patience) as answer:
                response = answer.wait()
                if start and response.status_code in (206, 416):
                    self._check_range(response, start, known["total"])
                    self.resumed = True
                else:
                    _check_status(response)
                    start = 0
                self._receive(answer, start, url)
        except Stalled as error:
            raise _Interrupted(str(error)) from error
        except _HOPELESS as error:
            raise TransferError(_brief(error)) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _Interrupted(_brief(error)) from error

    def _known(self, url: str) -> dict[str, Any]:
        """Return what is known of the file that `part` is of; nothing if it is of another."""
        try:
            known = json.loads(self._identity.read_text(encoding="utf-8"))
            usable = known["url"] == url and isinstance(known["tag"], str) and self._size() <= known["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return known if usable else {}

    def _check_range(self, response: requests.Response, start: int, total: int) -> None:
        """Check that an answer continues what is there; else forget that, to begin anew."""
        if response.headers.get("Content-Range") != f"bytes {start}-{total - 1}/{total}":
            self._identity.unlink()
            raise _Interrupted("the server answered with another part of the file than the one requested")

    def _receive(self, answer: Answer, start: int, url: str) -> None:
        """Append the answer to the first `start` bytes of `part`."""
        response, blocks = answer.response, answer.blocks()
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else 0
        first = next(blocks, b"")
        if start == 0:
            if "text/html" in response.headers.get("Content-Type", "") or _HTML.match(first):
                raise TransferError("the server answered with a web page, not with the file")
            self._remember(response, url, total)
        done = start
        with self._part.open("ab" if start else "wb") as file:
            while first:
                file.write(first)
                done += len(first)
                self._on_bytes(done, max(done, total))
                first = next(blocks, b"")
        if done < total:
            raise _Interrupted(f"the connection was cut after {done:,} of {total:,} bytes")

    def _remember(self, response: requests.Response, url: str, total: int) -> None:
        """Write down what file this is, if it may be resumed: no parts of two files are joined unseen."""
        tag = response.headers.get("ETag", "")
        if tag.startswith("W/") or not tag:  # weak ones do not promise the same bytes
            tag = response.headers.get("Last-Modified", "")
        self._identity.unlink(missing_ok=True)
        if total and (tag or self._checked):
            known = {"url": url, "tag": tag, "total": total}
            self._identity.write_text(json.dumps(known), encoding="utf-8")


def _check_status(response: requests.Response) -> None:
    status = response.status_code
    reason = f"the server answered {status} {response.reason}".strip()
    if status in _RETRIED or status >= 500:
        raise _Interrupted(reason)
    if status != 200:
        raise TransferError(reason)


def _brief(error: Exception) -> str:
    """Say in a few words what requests says in many."""
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not valid"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "the server redirects endlessly"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection to the server"
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return "the connection was cut"
    return " ".join(str(error).split()) or type(error).__name__
