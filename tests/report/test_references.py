from decaylab.replication import Reference
from decaylab.report.references import bibtex, citation, cited, located, reference_list

PAPER = Reference(
    id="E2", title="Why <we> need it", authors="D'Angelo, Andriushchenko, Varre", year=2024,
    url="https://arxiv.org/abs/2310.04415v2", locator="Figure 2",
)  # fmt: skip
POST = Reference(id="T", title="A post", authors="Giles Thomas", year=2026, url="https://example.org", locator="table")


def test_citations_have_names():
    assert citation(PAPER) == "D'Angelo et al. 2024"
    assert citation(POST) == "Giles Thomas 2026"
    assert citation(POST.model_copy(update={"authors": "Loshchilov and Hutter"})) == "Loshchilov and Hutter 2026"
    assert citation(POST.model_copy(update={"authors": "", "year": None})) == "A post"


def test_short_ids_are_never_shown_alone():
    text = located("E2 Figure 2; T, the table", [PAPER, POST])
    assert text == (
        '<a href="https://arxiv.org/abs/2310.04415v2">D&#x27;Angelo et al. 2024</a> Figure 2; '
        '<a href="https://example.org">Giles Thomas 2026</a>, the table'
    )


def test_a_claim_cites_what_its_locator_names():
    assert cited("E2 Figure 2", [PAPER, POST]) == ["D'Angelo et al. 2024"]
    assert cited("T against E2", [PAPER, POST]) == ["D'Angelo et al. 2024", "Giles Thomas 2026"]
    assert cited("Figure 1", [POST]) == ["Giles Thomas 2026"]
    assert cited("ours", [PAPER, POST]) == []


def test_bibtex_has_the_arxiv_number():
    entry = bibtex(PAPER)
    assert entry.startswith("@misc{dangelo2024,")
    assert "author = {D'Angelo and Andriushchenko and Varre}" in entry
    assert "eprint = {2310.04415v2}" in entry
    assert "eprint" not in bibtex(POST)


def test_the_list_escapes_titles():
    assert "Why &lt;we&gt; need it" in reference_list([PAPER])
