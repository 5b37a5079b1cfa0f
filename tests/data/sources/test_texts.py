"""Texts that every machine has, beside the sources of the standard library themselves."""

import hashlib

from decaylab.data.sources import arithmetic, docstrings
from decaylab.spec import TextData

MODULE = '''
"""The module."""

class Thing:
    """A thing,
    with a second line.
    """

    def method(self):
        "Does nothing."
        text = "no documentation"

async def later(): """Later."""
def silent(): pass
'''


def test_docstrings_of_modules_classes_and_functions():
    assert set(docstrings.docstrings(MODULE)) == {
        "The module.",
        "A thing,\nwith a second line.",
        "Does nothing.",
        "Later.",
    }
    assert list(docstrings.docstrings("def broken(:")) == []


def test_sums_are_right_and_the_same_everywhere():
    texts = list(arithmetic.documents())
    for line in texts[0].splitlines()[:50]:
        terms, _, result = line.partition("=")
        left, right = map(int, terms.split("+"))
        assert left + right == int(result)
        assert max(left, right) < 1000
    assert len(set(texts)) == len(texts) == 200
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    assert digest == "a2093102e451f90088bb5fdc7f1948965f90d9308e8a11bdd5fa2a259e3c67ef"


def test_sums_are_prepared_as_text(tmp_path):
    about = arithmetic.prepare(TextData(source="arithmetic"), tmp_path, None)
    assert about["documents"] == {"train": 180, "validation": 10, "test": 10}
    assert about["tokens"]["train"] > 700_000
