"""What several parts of the tests share."""

import json
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
      const order = tools.querySelector("select");
      order.value = "verdict";
      order.dispatchEvent(new Event("change"));
      const sorted = [...view.querySelectorAll("#claims .one")].map((row) => row.dataset.verdict);
      found[page].tools = { visible: !tools.hidden, all, filtered, sorted };
    }
    if (acts[page]) found[page].act = new frame.contentWindow.Function("view", acts[page])(view);
    frame.remove();
  }
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.append(result);
};
next();
</script></body>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Open pages in a real browser without a network: nothing may fail to load, no script fail, nothing be too wide.

    Gives what was found, by page: title, width, heights of figures, what the index's tools do, and `act`: what the
    body of a JavaScript function of the page's document `view` returns, for pages that `acts` names.
    """
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")

    def open_all(pages: Sequence[Path], acts: Mapping[str, str] | None = None) -> dict[str, Any]:
        probe = tmp_path / "probe.html"
        bodies = {page.as_uri(): acts[page.name] for page in pages if acts and page.name in acts}
        parts = json.dumps([page.as_uri() for page in pages]), json.dumps(bodies), PHONE
        probe.write_text(PROBE % parts, encoding="utf-8")
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--proxy-server=127.0.0.1:9",
                "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--window-size=1280,900",
                "--dump-dom", probe.as_uri(),
            ],
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        # a failed request, a blocked one and an exception in a script are all lines of the console
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        result = re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)
        assert result, done.stderr[-2000:]
        found = json.loads(unescape(result[1]))
        assert set(found) == {page.as_uri() for page in pages}
        for page, value in found.items():
            assert value["title"], page
            assert value["width"] <= PHONE, page
            assert value["broken"] == 0, page
            assert all(height > 50 for height in value["figures"]), page
        return {Path(page).name: value for page, value in found.items()}

    return open_all
