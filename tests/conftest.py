"""What several parts of the tests share."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A busy machine is slow, not wrong.
settings.register_profile("decaylab", deadline=None)
settings.load_profile("decaylab")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE, AXE_SHA256 = "4.14.1", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
"""version of axe-core, which knows the rules of accessibility, and the digest of its axe.min.js"""
WIDTHS = 1280, 375
PHONE = 390
"""width of a common phone in CSS pixels"""
PROBE = """<!DOCTYPE html><body><script>
const found = {};
const pages = %s;
const acts = %s;
const next = async () => {
  for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style.cssText = "width:%dpx;height:900px";
    document.body.append(frame);
    await new Promise((done) => { frame.onload = done; frame.src = page; });
    const view = frame.contentDocument;
    const tools = view.querySelector(".tools");
    found[page] = {
      title: view.title,
      width: view.documentElement.scrollWidth,
      broken: [...view.images].filter((image) => !image.naturalWidth).length,
      figures: [...view.querySelectorAll("figure svg")].map((svg) => svg.getBoundingClientRect().height),
    };
    if (tools && view.querySelector("#claims")) {
      const shown = () => view.querySelectorAll("#claims .one:not([hidden])").length;
      const [all] = [shown()];
      tools.querySelector("button[value=contradicted]")?.click(); // only verdicts that occur have a button
      const filtered = shown();
      const order = tools.querySelector("select[name=by]");
      order.value = "verdict";
      order.dispatchEvent(new Event("change"));
      const sorted = [...view.querySelectorAll("#claims .one")].map((row) => row.dataset.verdict);
      found[page].tools = { visible: !tools.hidden, all, filtered, sorted };
    }
    for (const part of view.querySelectorAll("details")) part.open = true;
    const reached = (part) => { part.focus({ preventScroll: true }); return view.activeElement === part; };
    const scrolls = (part) => part.scrollWidth > part.clientWidth + 1
      && ["auto", "scroll"].includes(frame.contentWindow.getComputedStyle(part).overflowX);
    const controls = [...view.querySelectorAll("a[href],button,select,input,summary")];
    const wanted = controls.filter((part) => part.checkVisibility());
    found[page].unreachable = [...wanted, ...[...view.querySelectorAll("*")].filter(scrolls)]
      .filter((part) => part.tabIndex !== 0 || !reached(part)).map((part) => part.outerHTML.slice(0, 120));
    if (acts[page]) found[page].act = new frame.contentWindow.Function("view", acts[page])(view);
    frame.remove();
  }
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.append(result);
};
next();
</script></body>"""

AXE_PROBE = """<!DOCTYPE html><body><script>
const next = async () => {
  const found = [];
  for (const page of %s) for (const width of %s) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px`;
    document.body.append(frame);
    await new Promise((done) => { frame.onload = done; frame.src = page; });
    for (const part of frame.contentDocument.querySelectorAll("details")) part.open = true;
    frame.contentWindow.eval(axe);
    const { violations } = await frame.contentWindow.axe.run();
    for (const { id, nodes } of violations) {
      found.push(`${page.split("/").pop()}, ${width} px, ${id}, ${nodes.length} times: ${nodes[0].html.slice(0, 200)} `
        + nodes[0].failureSummary);
    }
    frame.remove();
  }
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.append(result);
};
const axe = %s;
next();
</script></body>"""


def run_browser(folder: Path, html: str, *flags: str) -> tuple[Any, list[str]]:
    """Open a page in a real browser without a network: what it writes into a `pre` as JSON, and the console's lines."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    probe = folder / "probe.html"
    probe.write_text(html, encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--proxy-server=127.0.0.1:9",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--window-size=1280,900", *flags,
            "--dump-dom", probe.as_uri(),
        ],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    result = re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)
    assert result, done.stderr[-2000:]
    return json.loads(unescape(result[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which npm installs once into the user's cache; skips where that is impossible."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "decaylab" / f"axe-core-{AXE}"
    file = home / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("no npm on this machine to install axe-core with")
        home.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(home), "--no-save", "--ignore-scripts", f"axe-core@{AXE}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not file.exists():
            pytest.skip(f"npm cannot install axe-core: {done.stderr.strip()[:200]}")
    content = file.read_bytes()
    assert hashlib.sha256(content).hexdigest() == AXE_SHA256
    return content.decode()


@pytest.fixture
def violations(tmp_path: Path, axe: str) -> Callable[[Sequence[Path]], list[str]]:
    """What axe-core finds wrong with pages, everything unfolded, on a wide screen and a phone, in light and dark."""

    def check(pages: Sequence[Path]) -> list[str]:
        source = json.dumps(axe).replace("</", "<\\/")
        html = AXE_PROBE % (json.dumps([page.as_uri() for page in pages]), list(WIDTHS), source)
        light, _ = run_browser(tmp_path, html)
        dark, _ = run_browser(tmp_path, html, "--blink-settings=preferredColorScheme=0")
        return [f"light: {item}" for item in light] + [f"dark: {item}" for item in dark]

    return check


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Open pages in a real browser without a network: nothing may fail to load, no script fail, nothing be too wide,
    and the keyboard must reach every link, button, field and fold, and everything that scrolls.

    Gives what was found, by page: title, width, heights of figures, what the index's tools do, and `act`: what the
    body of a JavaScript function of the page's document `view` returns, for pages that `acts` names.
    """

    def open_all(pages: Sequence[Path], acts: Mapping[str, str] | None = None) -> dict[str, Any]:
        bodies = {page.as_uri(): acts[page.name] for page in pages if acts and page.name in acts}
        parts = json.dumps([page.as_uri() for page in pages]), json.dumps(bodies), PHONE
        found, console = run_browser(tmp_path, PROBE % parts)
        # a failed request, a blocked one and an exception in a script are all lines of the console
        assert console == []
        assert set(found) == {page.as_uri() for page in pages}
        for page, value in found.items():
            assert value["title"], page
            assert value["width"] <= PHONE, page
            assert value["broken"] == 0, page
            assert value["unreachable"] == [], page
            assert all(height > 50 for height in value["figures"]), page
        return {Path(page).name: value for page, value in found.items()}

    return open_all
