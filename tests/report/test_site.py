import re

import pytest

from decaylab.report.site import build_site
from decaylab.workspace import Workspace


@pytest.fixture(scope="module")
def site(clone, check_folder):
    root, layout = clone
    # as the notebook would have left it
    report = layout.report("smoke", "tiny_run")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("<!DOCTYPE html><title>x</title><p id=claim-decay-helps><p id=claim-decay-hurts>"
                      "<p id=claim-only-on-paper>", encoding="utf-8")  # fmt: skip
    index = build_site(Workspace(root, "smoke", layout))
    return check_folder(index.parent, layout.reports)


@pytest.fixture(scope="module")
def index(site, clone):
    return site[clone[1].index("smoke").resolve()]


def test_pages_are_offline_and_their_links_lead_somewhere(site):
    assert len(site) == 3 + 36 + 3 + 1  # index, ledger, report; runs; replication.yaml; archived runs


def test_the_index_lists_all_replications_and_all_claims(index):
    for name in ("tiny_run", "tiny_evidence", "tiny_never"):
        assert name in index.ids
        for claim in ("decay-helps", "decay-hurts", "only-on-paper"):
            assert f"{name}-claim-{claim}" in index.ids
    assert "Decay of 0.1 lowers the test error &lt;at the end&gt;." in index.text


def row(index, anchor: str) -> str:
    return index.text.split(f'id="{anchor}"')[1].split("</article>")[0]


def test_a_row_has_what_a_reader_needs(index):
    text = row(index, "tiny_run-claim-decay-helps")
    expected = ["15 -&gt; 10 %", "test error (fraction)", "reproduced", "smoke", "01234567", "norm falls"]
    expected += ["at the small learning rate", "Ours differs by", "tiny_run.html#claim-decay-helps"]
    for part in [*expected, "yaml/tiny_run.html#L"]:
        assert part in text, part
    assert re.search(r"\u2212\d\.\d+ points \[\u2212\d\.\d+, \u2212\d\.\d+\]", text)
    assert "archived runs" in row(index, "tiny_evidence-claim-decay-helps")
    assert "not run" in row(index, "tiny_never-claim-decay-helps")


def test_the_index_opens_with_what_was_found(index):
    box = index.text.split('<section class="found">')[1].split("</section>")[0]
    assert '<h2 id="theme-1">Further findings</h2>' in box
    boxes = box.split("<details")[1:]
    assert [re.search(r'id="found-(\w+)"', item)[1] for item in boxes] == ["tiny_run", "tiny_evidence"]
    first, rest = boxes[0].split("</summary>")
    assert "lowers the test error" in first  # the first claim stands for all, which unfold
    assert "Does not hold here" not in first
    assert "Does not hold here" in rest
    assert "Decay of 0.1 lowers the test error &lt;at the end&gt;." in box
    assert "Does not hold here: decay of 0.01 raises the test error." in box
    assert 'href="#tiny_run-claim-decay-hurts"' in box
    assert index.text.index(box) < index.text.index('id="claims-by-verdict"')
    assert "5 have not been run." in index.text
    assert "our estimate has its sign in 2 of 2 claims" in index.text


def test_archived_runs_have_a_page_of_their_own(site):
    (page,) = [page for path, page in site.items() if path.parent.name == "archive"]
    assert "gpu scale, generated images, An invented processor" in page.text
    assert "Decay of 0.01 raises the test error." in page.text
    assert "\u00b1" in page.text


def test_verdicts_are_counted_with_what_chance_would_give(index):
    counts = re.findall(r'<li><b>(\d+)</b><span class="verdict ([a-z-]+)">', index.text)
    assert counts == [("2", "reproduced"), ("2", "contradicted"), ("5", "not-run")]
    assert "4 of 9 claims judged, 2 of them from archived runs." in index.text
    assert "By chance, at most 0.15 of the 3 tests judged here are decided wrongly" in index.text
    assert re.search(r"of the 2 decided claims. \d of these survive the Benjamini-Hochberg", index.text)


def test_a_claim_that_is_younger_than_its_runs_is_marked(clone, site, tmp_path, read_page):
    from decaylab.files import Layout, read_json, write_json

    root, layout = clone
    other = Layout(layout.results, tmp_path / "reports")
    verdicts = read_json(layout.verdicts("smoke", "tiny_run"))
    old = read_json(layout.verdicts("smoke", "tiny_run"))
    verdicts["claims"][0]["registered_before_runs"] = False
    try:
        write_json(layout.verdicts("smoke", "tiny_run"), verdicts)
        page = read_page(build_site(Workspace(root, "smoke", other)))
    finally:
        write_json(layout.verdicts("smoke", "tiny_run"), old)
    assert "Not preregistered" in row(page, "tiny_run-claim-decay-helps")
    assert "Not preregistered" not in row(page, "tiny_run-claim-decay-hurts")


def test_a_run_page_leads_back_to_its_claims_and_down_to_its_files(site, clone):
    _, layout = clone
    used = re.findall(r'href="(runs/[^"]+)"', site[layout.index("smoke").resolve()].text)
    page = site[(layout.index("smoke").parent / used[0]).resolve()]
    assert "../index.html#tiny_run-claim-decay-helps" in page.links
    assert f"{page.path.stem}.csv" in page.links
    assert (page.path.with_suffix(".csv")).read_text(encoding="utf-8").startswith("step,")
    assert page.text.count("<figure>") == 3
    assert len(re.findall(r">seed \d</a>", page.text)) == 5
    assert f"decaylab train {page.path.stem} --scale smoke" in page.text
    for part in (
        "{name: sgd, learning_rate: ",
        "An invented processor",
        "12.3 k",
        "predicted",
        "configured",
    ):
        assert part in page.text, part
    assert len(page.text) < 11_000  # there may be thousands


def test_an_empty_clone_of_results_still_has_an_index(clone, tmp_path, read_page):
    from decaylab.files import Layout

    page = read_page(build_site(Workspace(clone[0], "laptop", Layout(tmp_path / "results", tmp_path / "reports"))))
    assert "2 of 9 claims judged" in page.text


def test_data_have_titles_and_licences(index, site, clone):
    licence = "generated images: smooth prototypes under clutter and noise. Licence: generated; no rights reserved."
    pages = [page for path, page in site.items() if path.parent.name in ("runs", "archive")]
    assert all(licence in page.text for page in [index, *pages])
    assert 'data-data="generated images"' in index.text


def test_claims_that_were_verified_say_so(index):
    text = row(index, "tiny_run-claim-decay-helps")
    assert re.search(r"with fresh seeds: .*inconclusive.*\u22124 points, n&nbsp;=&nbsp;7", text)
    assert "(before: contradicted)" in row(index, "tiny_run-claim-decay-hurts")
    assert "with fresh seeds, 0 of 2 came out the same, 1 came out otherwise, 1 stayed undecided." in index.text


@pytest.mark.slow
def test_the_index_filters_by_replication_and_scale(clone, site, tmp_path, browse):
    from decaylab.files import Layout

    root, layout = clone
    page = build_site(Workspace(root, "smoke", Layout(layout.results, tmp_path / "reports")))
    act = """
      const shown = () => [...view.querySelectorAll(".one:not([hidden])")].map((row) => row.id);
      const set = (name, value) => {
        const field = view.querySelector(`[name=${name}]`);
        field.value = value;
        field.dispatchEvent(new Event("change"));
      };
      view.querySelector("button[value=contradicted]").click();
      set("by", "");
      const found = { all: shown().length };
      set("scale", "gpu");
      found.gpu = shown();
      set("replication", "tiny_evidence");
      found.address = location.search;
      set("scale", "");
      found.replication = shown().length;
      found.names = [...view.querySelectorAll(".tools select")].map((choice) => choice.name);
      return found;
    """
    assert browse([page], {page.name: act})[page.name]["act"] == {
        "all": 9,
        "gpu": ["tiny_evidence-claim-decay-helps", "tiny_evidence-claim-decay-hurts"],
        "address": "?replication=tiny_evidence&scale=gpu",
        "replication": 3,
        "names": ["replication", "scale", "by"],  # one source and one data set leave nothing to choose
    }
