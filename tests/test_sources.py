from pathlib import Path

import pytest

from decaylab.errors import InputError
from decaylab.files import sha256_file, sha256_json
from decaylab.sources import Choice, choose, data_home, locate


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A data home with two archives and a folder; the current folder is another one."""
    folder = tmp_path / "data"
    (folder / "photos" / "train").mkdir(parents=True)
    (folder / "photos" / "train" / "1.png").write_bytes(b"one")
    for name in ("books-1.tar.xz", "books-2.tar.xz", "c++.txt"):
        (folder / name).write_text(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DECAYLAB_DATA", str(folder))
    return folder


def test_built_in_names_have_no_digest(home):
    assert choose("images", "cifar10") == Choice("cifar10")
    assert choose("text", "stdlib").fields() == {"source": "stdlib", "sha256": None}


def test_the_data_home_is_a_setting(home, monkeypatch):
    assert data_home() == home
    monkeypatch.delenv("DECAYLAB_DATA")
    assert data_home() == Path("data")


def test_a_name_is_found_in_the_data_home(home):
    choice = choose("text", "books-1.tar.xz")
    assert choice.source == "books-1.tar.xz"
    assert choice.paths == (home / "books-1.tar.xz",)
    assert choice.sha256 == sha256_file(home / "books-1.tar.xz")


def test_an_absolute_path_is_one_path(home):
    for kind, name in (("images", "photos"), ("text", "books-1.tar.xz")):
        assert choose(kind, str(home / name)).paths == (home / name,)


def test_the_current_folder_comes_first(home):
    Path("books-1.tar.xz").write_text("mine")
    choice = choose("text", "books-1.tar.xz")
    assert choice.paths == (Path("books-1.tar.xz").resolve(),)
    assert choose("text", "books-*").paths == choice.paths, "the first folder that has a match wins"


@pytest.mark.parametrize("value", ["books-1.tar.xz,books-2.tar.xz", "books-*.tar.xz"])
def test_several_files(home, value):
    choice = choose("text", value)
    assert choice.source == "books-1.tar.xz+books-2.tar.xz"
    assert choice.paths == (home / "books-1.tar.xz", home / "books-2.tar.xz")
    assert choice.sha256 == sha256_json([sha256_file(path) for path in choice.paths])


def test_a_pattern_may_reach_into_several_folders(home):
    for name in ("a", "b"):
        (home / name).mkdir()
        (home / name / "x.txt").write_text(name)
    assert [path.parent.name for path in choose("text", "[ab]/x.txt").paths] == ["a", "b"]


def test_a_name_with_brackets_is_a_name(home):
    (home / "[1].txt").write_text("1")
    assert choose("text", "[1].txt").paths == (home / "[1].txt",)


def test_the_digest_of_a_folder_follows_names_and_content(home):
    image = home / "photos" / "train" / "1.png"
    first = choose("images", "photos").sha256
    assert choose("images", "photos/").sha256 == first
    image.write_bytes(b"two")
    second = choose("images", "photos").sha256
    image.rename(image.with_name("2.png"))
    assert len({first, second, choose("images", "photos").sha256}) == 3


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("images", "cifar11", "no data set, file or folder 'cifar11' here or in .*cifar10"),
        ("text", "books-1.tar.xz,absent", "'absent'"),
        ("text", "cifar10", "expected one of arithmetic, docstrings, fineweb, openwebtext, stdlib"),
        ("images", "books-*", "expected one archive or folder, found 2"),
        ("text", "", "no data set, file or folder ''"),
        ("text", "books-1.tar.xz,", "no data set, file or folder ''"),
    ],
)
def test_what_does_not_exist_is_one_line(home, kind, value, words):
    with pytest.raises(InputError, match=words) as error:
        choose(kind, value)
    assert str(error.value).startswith(f"{kind}={value}: ")
    assert "\n" not in str(error.value)


def test_locate_finds_what_was_chosen(home, tmp_path):
    elsewhere = tmp_path / "mine.txt"
    elsewhere.write_text("mine")
    choice = choose("text", str(elsewhere))
    assert locate("text", "mine.txt", choice) == (elsewhere,)
    assert locate("text", "books-1.tar.xz+books-2.tar.xz", choice) == (home / "books-1.tar.xz", home / "books-2.tar.xz")
    assert locate("text", "c++.txt") == (home / "c++.txt",)
    with pytest.raises(InputError, match=r"'mine.txt': not found in .* or give its path with --text"):
        locate("text", "mine.txt")
