"""The page of the ledger, and its table in the documentation."""

import re
from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.ledger import ledger_file, load_ledger
from decaylab.replication import select
from decaylab.report.html import environment
from decaylab.report.ledger_page import ANY, Found, judged, ledger_markdown, ledger_page, verdicts_at
from decaylab.report.site import build_site
from decaylab.workspace import Workspace

ROOT = Path(__file__).parents[2]


def outcomes(page):
    return {row["entry"].id: row["outcomes"] for item in page["sources"] for row in item["entries"]}


@pytest.fixture(scope="module")
def page(clone):
    root, layout = clone
    return ledger_page(select(root, "all"), Workspace(root, "smoke", layout))


def test_outcomes_follow_results_and_evidence_at_each_scale(page):
    assert page["scales"] == ["smoke", "gpu"]
    found = outcomes(page)
    assert found["S000-1"] == {ANY: "not run", "smoke": "supported", "gpu": "not run"}  # smoke decides nothing
    assert found["S000-2"]["smoke"] == "contradicted"
    assert found["S000-3"] == {ANY: "supported", "smoke": "not run", "gpu": "supported"}
    assert found["S000-4"] == {ANY: "not run", "smoke": "not run", "gpu": "not run"}
    assert set(found["S001-1"].values()) == {"refuted"}
    assert page["sources"][0]["said"]["smoke"] == (
        "Of 4 statements, runs can test all: 1 supported, 1 contradicted and 2 not run."
    )


def test_a_claim_counts_at_the_largest_scale_that_decides_it():
    def at(**verdicts):
        items = {scale: Found(verdict, "", False) for scale, verdict in verdicts.items()}
        return verdicts_at({"a/x": items}, ANY).get("a/x")

    assert at(laptop="reproduced", gpu="contradicted") == "contradicted"
    assert at(laptop="reproduced", gpu="inconclusive") == "reproduced"
    assert at(laptop="not testable here", gpu="inconclusive") == "inconclusive"
    assert at(laptop="inconclusive", gpu="not testable here") == "inconclusive"
    assert at(smoke="reproduced") is None


def test_the_page_shows_every_statement_with_its_ground(clone, page):
    root, layout = clone
    text = (build_site(Workspace(root, "smoke", layout)).parent / "ledger.html").read_text(encoding="utf-8")
    row = {
        id_: body for id_, body in re.findall(r'<article class="statement" id="([^"]+)">(.*?)</article>', text, re.S)
    }
    assert list(row) == ["S000-1", "S000-2", "S000-3", "S000-4", "S001-1", "S001-2"]
    assert "Decay helps &lt;a lot&gt;." in row["S000-1"]
    assert re.search(r"index.html#tiny_run-claim-decay-helps\">smoke scale</a>: .*points \[", row["S000-1"])
    assert "the statement denies this claim" in row["S000-2"]
    assert re.search(r'href="archive/tiny_evidence-gpu[^"]+">gpu scale</a>.*archived runs', row["S000-3"])
    assert "<code>not_yet/moon</code> is not part of the suite yet." in row["S000-4"]
    assert "Left open: the sun." in row["S000-4"]
    assert "<b>A paper.</b> One has 0.2" in row["S001-1"]
    assert "A prediction." in row["S001-2"]
    # without scripts, each statement and each source shows one outcome
    assert all(len(re.findall(r"data-outcome=\"[^\"]+\">", body)) == 1 for body in row.values())


def test_the_real_ledger_makes_a_page_with_every_id(tmp_path):
    """Counts the ids: none is lost between the file and the page."""
    layout = Layout(tmp_path / "results", tmp_path / "reports")
    found = ledger_page(select(ROOT, "all"), Workspace(ROOT, "laptop", layout))
    text = environment().get_template("ledger.html.j2").render(found)
    shown = re.findall(r'<article class="statement" id="([^"]+)">', text)
    assert shown == [entry.id for entry in load_ledger(ROOT).entries]
    assert len(shown) == found["total"] == 61
    assert sum(found["counts"].values()) == 61
    listed = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (S\d{3}-\d+) \|", listed, re.M) == shown


def test_the_table_follows_the_filed_evidence_alone(clone):
    root, _ = clone
    text = ledger_markdown(root)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| S")}
    assert "**not run**" in rows["S000-1"]  # its runs are results, which the documentation does not show
    assert "**supported**" in rows["S000-3"]
    assert "contradicted at gpu scale" in rows["S000-3"]
    assert "`not_yet/moon`: not part of the suite yet; left open: the sun" in rows["S000-4"]
    assert "[B. Author, 2021](https://example.org/another). Of 2 statements, documents speak of 1" in text


def test_a_claim_that_its_replication_lacks_is_one_line(clone, tmp_path):
    root, _ = clone
    other = tmp_path / "replications"
    other.mkdir()
    text = ledger_file(root).read_text(encoding="utf-8")
    (other / "ledger.yaml").write_text(text.replace("tiny_run/decay-helps", "tiny_run/decay-sings"), encoding="utf-8")
    reps = select(root, "all")
    with pytest.raises(InputError, match=r"S000-1: tiny_run has no claim decay-sings"):
        ledger_page(reps, Workspace(tmp_path, "smoke", Layout(tmp_path / "results", tmp_path / "reports")))


def test_a_clone_without_a_ledger_has_no_page(tmp_path):
    assert ledger_page([], Workspace(tmp_path)) is None
    assert judged([], tmp_path) == {}


@pytest.mark.slow
def test_the_filters_work_and_the_address_keeps_them(clone, tmp_path, browse):
    root, layout = clone
    layout = Layout(layout.results, tmp_path / "reports")
    page = build_site(Workspace(root, "smoke", layout)).parent / "ledger.html"
    act = """
      const shown = () => [...view.querySelectorAll(".statement:not([hidden])")].map((row) => row.id);
      const set = (name, value) => {
        const field = view.querySelector(`[name=${name}]`);
        field.value = value;
        field.dispatchEvent(new Event("input"));
      };
      const found = { all: shown().length };
      set("verdict", "supported");
      found.supported = shown();
      set("scale", "smoke");
      found.smoke = shown();
      found.said = view.querySelector(".said:not([hidden])").textContent;
      found.address = location.search;
      set("verdict", ""); set("scale", ""); set("source", "S001"); set("q", "automatic");
      found.searched = shown();
      found.heads = view.querySelectorAll(".source:not([hidden])").length;
      return found;
    """
    found = browse([page], {"ledger.html": act})["ledger.html"]["act"]
    assert found == {
        "all": 6,
        "supported": ["S000-3"],
        "smoke": ["S000-1"],
        "said": "Of 4 statements, runs can test all: 1 supported, 1 contradicted and 2 not run.",
        "address": "?verdict=supported&scale=smoke",
        "searched": ["S001-2"],
        "heads": 1,
    }
