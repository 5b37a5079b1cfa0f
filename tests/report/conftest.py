"""Invented results: files as a training writes them, for any RunSpec, in milliseconds."""

import math
import re
import shutil
import textwrap
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest

from decaylab.analysis import filing, judge
from decaylab.files import Layout, write_json
from decaylab.ledger import ledger_file
from decaylab.replication import expand, load_replication, replication_file
from decaylab.spec import RunSpec
from decaylab.spec.base import declared
from decaylab.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]

TINY = """
    title: {title}
    question: Does decay lower the test error of invented runs?
    row: {row}
    references:
      - {{id: X, title: An invented paper, url: "https://example.org/paper", locator: Figure 1}}
    base:
      data: {{kind: images, source: procedural, train_examples: 100, test_examples: 100}}
      model: {{kind: mlp, width: 8}}
      optimizer: {{name: sgd, learning_rate: 0.1}}
      schedule: {{kind: step, drops: [{{step: 50, learning_rate: 0.01}}]}}
      steps: {steps}
      batch_size: 10
      ema: 0.9
      evaluation: {{every: 10, log_every: 5}}
    grids:
      main:
        label: A small network
        axes:
          learning_rate: [0.1, 0.01]
          weight_decay: [0, 0.01, 0.1]
          seed: [0, 1, 2, 3, 4, 5]
    regimes:
      with decay: {{among: {{grid: main, learning_rate: 0.1, weight_decay: 0.1}}}}
    claims:
      - id: decay-helps
        statement: Decay of 0.1 lowers the test error <at the end>.
        locator: Figure 1
        unit: test error (fraction)
        source_value: {{value: -0.05, text: 15 -> 10 %, same_setting: [smoke]}}
        tests:
          - metric: test_error
            arm: {{grid: main, learning_rate: 0.1, weight_decay: 0.1}}
            minus: {{grid: main, learning_rate: 0.1, weight_decay: 0}}
            direction: below
            smallest_effect: 0.005
          - name: norm falls
            metric: weight_norm
            arm: {{grid: main, learning_rate: 0.1, weight_decay: 0.1}}
            minus: {{grid: main, learning_rate: 0.1, weight_decay: 0}}
            direction: below
            smallest_effect: 0.1
        also:
          - {{label: at the small learning rate, arm: {{learning_rate: 0.01}}}}
        scales: [smoke, gpu]
      - id: decay-hurts
        statement: Decay of 0.01 raises the test error.
        locator: Figure 2
        unit: test error (fraction)
        source_value: {{text: no number}}
        tests:
          - metric: test_error
            arm: {{grid: main, learning_rate: 0.1, weight_decay: 0.1}}
            minus: {{grid: main, learning_rate: 0.1, weight_decay: 0}}
            direction: above
            smallest_effect: 0.005
        scales: [smoke, gpu]
      - id: only-on-paper
        statement: This is judged at paper scale only.
        locator: Figure 3
        unit: nats
        source_value: {{text: no number}}
        tests:
          - {{metric: test_loss, arm: {{grid: main, learning_rate: 0.1, weight_decay: 0}}, direction: above,
             smallest_effect: 0}}
        scales: [paper]
"""


def invent(layout: Layout, spec: RunSpec, diverges: bool = False) -> None:
    """Files of one finished run. Decay makes it slower at first, better at the end; seeds differ more than arms."""
    generator = np.random.default_rng(zlib.crc32(spec.run_id.encode()))
    paired = np.random.default_rng(spec.seed)
    text = spec.data.kind == "text"
    strength = min(1.0, spec.decay.weight_decay * spec.optimizer.learning_rate * (200 if text else 60))
    every, logged = spec.evaluation.every, spec.evaluation.log_every
    steps = sorted({*range(0, spec.steps + 1, logged), *range(0, spec.steps + 1, every), spec.steps})
    end = spec.steps // 2 if diverges else spec.steps
    drop = spec.schedule.drops[0].step if spec.schedule.drops else spec.steps
    guess = math.log(256 if text else 10)
    shift = paired.normal(0, 0.03)
    columns = [name for request in spec.evaluation.requests for name in declared("probes", request.name, "COLUMNS")]
    probed = [*columns, *(f"{name}.{part}" for name in columns for part in PARTS)]
    rows = []
    for step in (step for step in steps if step <= end):
        done = step / spec.steps
        late = step >= drop if spec.schedule.drops else done > 0.8 and spec.schedule.kind != "constant"
        loss = 0.5 * text + guess * math.exp(-3 * done) + 0.1 + shift + strength * (0.15 - (0.3 if late else 0))
        loss = max(0.01, loss + generator.normal(0, 0.004))
        row = {"step": step}
        if step % every == 0 or step == spec.steps:
            row |= {"train_loss": loss, "train_error": 1 - math.exp(-loss)}
            # the noise of large learning rates, which averaging removes
            error = 0.1 + 0.4 * math.exp(-3 * done) + shift / 2 - 0.04 * strength
            noise = 0 if late else 0.1 * (1 + strength)
            held = {"error": error + noise + generator.normal(0, 0.004), "loss": loss + 0.08}
            kinds = ("validation",) if text else ("test",)
            row |= {f"{kind}_{name}": value for kind in kinds for name, value in held.items()}
            if spec.ema:
                row |= {f"ema_{kind}_error": error + 0.01 for kind in kinds} | {"ema_train_loss": loss - 0.05}
            row |= dict.fromkeys(probed, 0.3 + 0.5 * done - 0.1 * strength)
            if "lost_updates" in spec.evaluation.probes:
                row |= dict.fromkeys(("lost_updates", "lost_updates.mlp"), min(1, 0.2 + 0.7 * done - 0.1 * strength))
            if "attention" in spec.evaluation.probes:
                row |= {"max_weight": 1 + done, "max_logit": 5 + 9 * done, "attention_logit": 3 + 20 * done}
        if step % logged == 0 or step == spec.steps:
            norm = 10 + 8 * math.sqrt(done) * (1 - strength) - 4 * strength * done
            row |= {"learning_rate": spec.optimizer.learning_rate * (0.1 if late else 1), "batch_loss": loss}
            row |= {"weight_norm": norm, "weight_norm.mlp": 0.8 * norm, "gradient_norm": 1 / (1 + loss)}
            row |= {"weight_decay": spec.decay.weight_decay, "effective_learning_rate": 0.1 / norm}
        rows.append(row)
    frame = pd.DataFrame(rows)
    layout.run(spec.run_id).mkdir(parents=True, exist_ok=True)
    frame.to_parquet(layout.metrics(spec.run_id))
    final = {name: float(frame[name].dropna().iloc[-1]) for name in frame if name != "step"}
    if text:
        final |= {f"test_{name}": final[f"validation_{name}"] + 0.01 for name in ("loss", "error")}
    if diverges:
        final |= {name: None for name in final if name.endswith(("loss", "error"))}
    summary = {
        "run_id": spec.run_id,
        "spec": spec.model_dump(mode="json", exclude_none=True),
        "seconds": 4 + generator.uniform(0, 6),
        "predicted_seconds": 7.0,
        "started_at": "2999-01-01T00:00:00+00:00",
        "steps_done": end,
        "final": final,
        "texts": {"completion": "Every effort moves you <b>forward</b>."} if text else {},
        "diverged_at_step": end if diverges else None,
        "chance": {"loss": guess, "error": 1 - math.exp(-guess)},
        "applied_decay": {"mlp": {"configured": spec.decay.weight_decay, "measured": spec.decay.weight_decay}},
        "data_sha256": "0" * 64,
        "commit": "0123456789ab",
        "code": "abcdef",
        "versions": {"python": "3.11", "torch": "2.11"},
        "hardware": {"device": "cpu", "name": "An invented processor", "cpu_count": 2, "threads": 1},
        "flops": 1e12,
        "peak_memory_bytes": 10**8,
        "parameters": 12345,
    }
    write_json(layout.summary(spec.run_id), summary)


def invent_all(root: Path, layout: Layout, name: str, scale: str, skip: int = 0) -> None:
    """Results of a replication (without every `skip`-th run) and its verdicts."""
    rep = load_replication(replication_file(root, name))
    for index, (spec, _, _) in enumerate(expand(rep, scale)):
        if not skip or index % skip:
            invent(layout, spec, diverges=spec.optimizer.learning_rate >= 0.5)
    judge.judge(rep, Workspace(root, scale, layout)).write(layout)


@pytest.fixture(scope="session")
def inventor():
    """invent, invent_all: for tests that need results of their own."""
    return invent, invent_all


PARTS = (
    *("convolution", "features0", "attention", "mlp", "embedding", "weights", "activations", "block0", "int4", "int8"),
    *("frequent", "middle", "rare", "qk", "vo"),
)
"""into which probes split their columns; each invented column has all of them"""
LEDGER = """
    sources:
      S000: {title: An invented source, authors: A. Author, year: 2020}
      S001: {title: Another one, authors: B. Author, year: 2021, url: "https://example.org/another"}
    entries:
      - {id: S000-1, statement: Decay helps <a lot>., claims: [tiny_run/decay-helps]}
      - {id: S000-2, statement: Decay never helps., claims: [not tiny_run/decay-helps, tiny_never/only-on-paper]}
      - {id: S000-3, statement: Decay lowers the error., claims: [opposite tiny_evidence/decay-hurts]}
      - {id: S000-4, statement: The moon is involved., claims: [not_yet/moon], partly: the sun}
      - {id: S001-1, statement: All models use 0.1., document: {outcome: refuted, name: A paper, finding: One has 0.2}}
      - {id: S001-2, statement: Decay will be automatic., untestable: a prediction}
"""


# attributes whose value a browser fetches by itself, as opposed to a link that a reader may follow
LOADS = {"src", "srcset", "poster", "data", "background", "action", "formaction"}


class Page(HTMLParser):
    """What a page loads, links to, defines as anchors, and shows without words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.loads, self.links, self.ids, self.wordless = path, [], [], [], []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.loads += [value for key, value in attrs if key in LOADS and value]
        self.loads += [named["href"]] if tag == "link" else []
        self.loads += [named["href"]] if tag in ("use", "image") and not named["href"].startswith("#") else []
        self.links += [named["href"]] if tag == "a" else []
        self.ids += [named["id"]] if "id" in named else []
        if tag in ("img", "svg") and not (named.get("alt") or named.get("aria-label") or "aria-hidden" in named):
            self.wordless.append(self.get_starttag_text())


def check_offline(page: Page) -> None:
    """Nothing is fetched, by element, style or script, from anywhere but the page itself."""
    outside = [url for url in page.loads if not url.startswith("data:")]
    assert outside == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", page.text, re.S))
    assert not re.search(r"@import|url\((?!#)", styles)
    scripts = "".join(re.findall(r"<script[^>]*>(.*?)</script>", page.text, re.S))
    assert not re.search(r"https?:|import\s*\(|fetch\(|XMLHttpRequest", scripts)
    assert page.wordless == []


def check_links(page: Page, pages: dict[Path, Page], folder: Path) -> None:
    """Every relative link leads to a file of the folder, which may travel, and every anchor in our pages exists."""
    for link in page.links:
        url = urlsplit(link)
        if url.scheme:
            continue
        target = (page.path.parent / unquote(url.path)).resolve() if url.path else page.path
        assert target.exists(), f"{page.path.name}: {link}"
        assert target.is_relative_to(folder), f"{page.path.name}: {link} leaves the reports"
        if url.fragment and target in pages:
            assert url.fragment in pages[target].ids, f"{page.path.name}: {link}"


@pytest.fixture(scope="session")
def read_page():
    """Reads one HTML file."""
    return Page


@pytest.fixture(scope="session")
def check_folder():
    """Reads all pages of a folder: none loads anything, and all links lead to files of a folder that may travel."""

    def check(folder: Path, travels: Path) -> dict[Path, Page]:
        pages = {path.resolve(): Page(path.resolve()) for path in sorted(folder.rglob("*.html"))}
        for page in pages.values():
            check_offline(page)
            check_links(page, pages, travels.resolve())
            assert len(page.ids) == len(set(page.ids)), page.path
        return pages

    return check


AGAIN = [
    {"claim": f"tiny_run/{claim}", "mode": mode, "verdict": before, "again": again, "estimate": -0.05,
     "estimate_again": -0.04, "n": 6, "n_again": 7}
    for claim, mode, before, again in (
        ("decay-helps", "rounding", "reproduced", "reproduced"),
        ("decay-helps", "fresh", "reproduced", "inconclusive"),
        ("decay-hurts", "fresh", "contradicted", "negligible"),
    )
]  # fmt: skip
"""what `decaylab verify` writes"""


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """(root, layout): three tiny replications at smoke scale, one run, one filed, one neither; and a ledger."""
    root = tmp_path_factory.mktemp("clone")
    for row, name in enumerate(["tiny_run", "tiny_evidence", "tiny_never"], start=1):
        text = textwrap.dedent(TINY).format(title=name.replace("_", " ").capitalize(), row=row, steps=100 + row)
        replication_file(root, name).parent.mkdir(parents=True)
        replication_file(root, name).write_text(text, encoding="utf-8")
    ledger_file(root).write_text(textwrap.dedent(LEDGER), encoding="utf-8")
    (root / "notebooks").symlink_to(REPOSITORY / "notebooks")
    layout = Layout(root / "results", root / "reports")
    invent_all(root, layout, "tiny_run", "smoke")
    write_json(layout.verified("smoke"), AGAIN)
    elsewhere = Layout(root / "elsewhere")
    invent_all(root, elsewhere, "tiny_evidence", "gpu")
    filing.collect(load_replication(replication_file(root, "tiny_evidence")), Workspace(root, "gpu", elsewhere))
    return root, layout


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """(root, layout): the real replications and notebooks, where a test may write results."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("notebooks", "docs"):
        (root / name).symlink_to(REPOSITORY / name)
    # without the evidence, which pages show where nothing has run
    ignore = shutil.ignore_patterns("evidence")
    shutil.copytree(REPOSITORY / "replications", root / "replications", ignore=ignore)
    return root, Layout(root / "results", root / "reports")
