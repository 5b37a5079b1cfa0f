"""The pages in a real browser without a network: nothing fails to load, no script fails, nothing is too wide."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from decaylab.files import Layout
from decaylab.report.notebook import render
from decaylab.report.site import build_site

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = 390
"""width of a common phone in CSS pixels"""
PROBE = """<!DOCTYPE html><body><script>
const found = {};
const pages = %s;
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
    if (tools) {
      const shown = () => view.querySelectorAll("#claims tbody.one:not([hidden])").length;
      const [all] = [shown()];
      tools.querySelector("button[value=contradicted]").click();
      const filtered = shown();
      const order = tools.querySelector("select");
      order.value = "verdict";
      order.dispatchEvent(new Event("change"));
      const sorted = [...view.querySelectorAll("#claims tbody.one")].map((row) => row.dataset.verdict);
      found[page].tools = { visible: !tools.hidden, all, filtered, sorted };
    }
    frame.remove();
  }
  const result = document.createElement("pre");
  result.textContent = JSON.stringify(found);
  document.body.append(result);
};
next();
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_pages_work_in_a_browser_without_a_network(clone, repository, inventor, tmp_path):
    root, layout = clone
    layout = Layout(layout.results, tmp_path / "reports")
    index = build_site("smoke", layout, root)
    real_root, _ = repository
    real = Layout(tmp_path / "results", tmp_path / "real")
    inventor[1](real_root, real, "loss_stabilization", "smoke")
    report = render("loss_stabilization", "smoke", real, real_root)
    build_site("smoke", real, real_root)
    pages = [index, next(index.parent.glob("runs/*.html")), report]
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % (json.dumps([page.as_uri() for page in pages]), PHONE), encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--proxy-server=127.0.0.1:9",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--window-size=1280,900",
            "--dump-dom", probe.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    # a failed request, a blocked one and an exception in a script are all lines of the console
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    result = re.search(r"<pre>(.*?)</pre>", done.stdout, re.S)
    assert result, done.stderr[-2000:]
    found = json.loads(unescape(result[1]))
    assert set(found) == {page.as_uri() for page in pages}
    for page, value in found.items():
        assert value["title"], page
        assert value["width"] <= PHONE, page
        assert value["broken"] == 0, page
        assert all(height > 50 for height in value["figures"]), page
    assert len(found[report.as_uri()]["figures"]) >= 5
    tools = found[index.as_uri()]["tools"]
    assert tools["visible"]
    assert (tools["all"], tools["filtered"]) == (9, 7)
    assert tools["sorted"] == ["reproduced"] * 2 + ["contradicted"] * 2 + ["not run"] * 5
