"""The page of `pamela report` in a real browser: headless Chromium, where one is installed."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_page import hostile_run
from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=20000", "--timeout=60000"),
]
PROBE = """<!DOCTYPE html><title>probe</title>
<iframe id="page" width="{width}" height="900" src="{page}"></iframe>
<pre id="found"></pre><script>
document.getElementById("page").onload = (event) => {{
  const view = event.target.contentWindow, page = view.document;
  document.getElementById("found").textContent = JSON.stringify({{
    images: [...page.images].map((image) => image.complete && image.naturalWidth > 0),
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    headings: [...page.querySelectorAll("h1, h2")].map((heading) => heading.textContent),
    broken: [...page.querySelectorAll('a[href^="#"]')]
      .filter((link) => !page.getElementById(link.hash.slice(1))).length,
    fetched: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    pwned: "pwned" in view,
  }});
}};
</script>"""


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and writes down what is asked for, of itself and, as a proxy, of others."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(502)

    def end_headers(self) -> None:
        # Pages of one name follow each other within a second, which is all that dates of files tell.
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@dataclass
class Browser:
    """Opens pages of a folder that a server on this machine serves; nothing else can be reached."""

    folder: Path
    profile: Path
    port: int
    asked: list[str] = field(default_factory=list)

    def address(self, page: str) -> str:
        return f"http://127.0.0.1:{self.port}/{page}"

    def run(self, page: str, *flags: str) -> tuple[str, list[str]]:
        """What Chromium prints, and the lines of its console."""
        assert CHROMIUM is not None
        proxy = [f"--proxy-server=http://127.0.0.1:{self.port}", "--proxy-bypass-list=127.0.0.1"]
        own = [f"--user-data-dir={self.profile}", *proxy]
        command = [CHROMIUM, *FLAGS, *own, *flags, self.address(page)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def probe(self, page: Path, width: int) -> dict[str, Any]:
        """Facts on a page in a window of that width; it may ask for nothing, and nothing be wrong with it."""
        shutil.copy(page, self.folder / "report.html")
        (self.folder / "probe.html").write_text(PROBE.format(page="report.html", width=width))
        self.asked.clear()
        dom, console = self.run("probe.html", "--dump-dom")
        assert console == []
        # Chromium asks its maker for this and that by itself, and here for the icon of the probe.
        local = [path for path in self.asked if path.startswith("/") and path != "/favicon.ico"]
        assert local == ["/probe.html", "/report.html"]
        found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
        assert found, dom
        facts: dict[str, Any] = json.loads(html.unescape(found.group(1)))
        return facts

    def picture(self, page: Path, width: int, *flags: str) -> Image.Image:
        """A screenshot."""
        shutil.copy(page, self.folder / "report.html")
        out = self.folder / "picture.png"
        self.run("report.html", f"--window-size={width},1600", f"--screenshot={out}", *flags)
        with Image.open(out) as image:
            return image.convert("RGB")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("served")
    asked: list[str] = []
    handler = partial(type("Handler", (_Handler,), {"asked": asked}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Browser(folder, tmp_path_factory.mktemp("profile"), server.server_address[1], asked)
        server.shutdown()
        thread.join()


def test_probe_finds_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    """The tests below can fail: a page with these faults is caught."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<!DOCTYPE html><title>x</title><h1>x</h1><img src="none.png"><img src="http://images.test/x.png">'
        '<a href="#none">x</a><div style="width: 3000px">x</div>'
        '<script>window.pwned = 1; console.error("oh")</script>'
    )
    with pytest.raises(AssertionError):
        browser.probe(page, 1200)
    assert {"/none.png", "http://images.test/x.png"} <= set(browser.asked)
    dom, console = browser.run("probe.html", "--dump-dom")
    assert [line for line in console if "oh" in line]
    facts = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL).group(1)))
    assert facts.pop("overflow") > 0
    assert set(facts.pop("fetched")) == {browser.address("none.png"), "http://images.test/x.png"}
    assert facts == {"images": [False, False], "headings": ["x"], "broken": 1, "pwned": True}


@pytest.mark.parametrize("width", [400, 1200])
def test_one_run(pamela, browser: Browser, own_world: Path, width: int) -> None:
    pamela("report", "tiny-a").ok()
    facts = browser.probe(own_world / "runs/tiny-a/report.html", width)
    sections = ["Results", "Figures", "Settings", "Environment", "How to reproduce it"]
    assert facts == {
        "images": [True] * 3,
        "overflow": 0,
        "headings": ["tiny-a", *sections],
        "broken": 0,
        "fetched": [],
        "pwned": False,
    }


def test_several_hostile_runs(pamela, undrawn: None, browser: Browser, own_world: Path) -> None:
    run = hostile_run(own_world)
    pamela("report", "sine-a", run.name).ok()
    facts = browser.probe(own_world / "runs/report.html", 400)
    assert all(facts["images"])
    assert facts["headings"] == ["2 runs", "Comparison", "sine-a", run.name]
    assert (facts["overflow"], facts["broken"], facts["fetched"], facts["pwned"]) == (0, 0, [], False)


def test_light_and_dark(pamela, undrawn: None, browser: Browser, own_world: Path) -> None:
    pamela("report", "sine-a").ok()
    page = own_world / "runs/sine-a/report.html"
    for scheme, paper in ((1, (255, 255, 255)), (0, (0x17, 0x18, 0x1C))):
        image = browser.picture(page, 600, f"--blink-settings=preferredColorScheme={scheme}")
        assert image.getpixel((2, 2)) == paper
        shades = [sum(colour) / 3 for _, colour in image.crop((0, 0, 600, 300)).getcolors(1 << 24)]
        assert max(shades) - min(shades) > 180, "the text does not stand out"
