"""README.md says what the evidence says, and only that."""

from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.report import readme

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("document", "name", "generate"), readme.GENERATED)
def test_documents_say_what_the_evidence_says(document, name, generate) -> None:
    _, inside, _ = readme.split(ROOT / document, name)
    assert inside == generate(ROOT), "run `make readme`"
    assert (ROOT / readme.FIGURE).stat().st_size > 10_000


def test_every_link_of_the_documents_leads_somewhere() -> None:
    import re

    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_a_readme_without_its_markers_is_one_line(tmp_path) -> None:
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(InputError, match=r"README\.md: expected the markers"):
        readme.write(tmp_path)
