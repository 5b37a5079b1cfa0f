"""Archives and folders: what is read, and that bad ones are refused in one line."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pytest

from decaylab.data.archives import contents, is_archive
from decaylab.data.inventory import Inventory
from decaylab.errors import InputError
from decaylab.files import printable
from decaylab.sources import digest, found_lines

FILES = {"top/train/cat/1.txt": b"one", "top/train/dog/2.txt": b"two", "top/.hidden.txt": b"no"}


def linked_zip(path: Path, files: dict[str, bytes], links: dict[str, str]) -> Path:
    """A zip with symbolic links, as Unix tools write them."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in links.items():
            link = zipfile.ZipInfo(name)
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
    return path


def tar(path: Path, members: dict[str, bytes], links: dict[str, tuple[str, bytes]] | None = None) -> Path:
    with tarfile.open(path, "w:" + (path.suffix[1:] if path.suffix != ".tar" else "")) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, (target, kind) in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def everything(path: Path) -> dict[str, bytes]:
    return dict(contents(path, lambda name: name.endswith(".txt")))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.zip", "folder"])
def test_every_form_gives_the_same_files(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        for member, content in FILES.items():
            (path / member).parent.mkdir(parents=True, exist_ok=True)
            (path / member).write_bytes(content)
    elif name == "a.zip":
        zipped(path, FILES)
    else:
        tar(path, FILES)
    assert is_archive(path) == (name != "folder")
    assert everything(path) == {"top/train/cat/1.txt": b"one", "top/train/dog/2.txt": b"two"}


@pytest.mark.parametrize("member", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "..\\evil.txt"])
@pytest.mark.parametrize("make", [tar, zipped])
def test_members_that_climb_out_are_refused(tmp_path, make, member):
    path = make(tmp_path / ("a.tar" if make is tar else "a.zip"), {"fine.txt": b"", member: b"bad"})
    with pytest.raises(InputError, match=r"a\.(tar|zip): member '.*evil\.txt' leads out of the archive"):
        everything(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_that_lead_out_are_refused(tmp_path, target, kind):
    path = tar(tmp_path / "a.tar", {}, {"folder/link.txt": (target, kind)})
    with pytest.raises(InputError, match=r"member 'folder/link\.txt' leads out"):
        everything(path)


@pytest.mark.parametrize("form", ["folder", "a.tar", "a.tar.gz", "a.zip"])
def test_links_are_read_and_useless_ones_reported(tmp_path, form):
    """A link to a file, to a folder, through another link, to nothing, and into the folder above itself."""
    links = {
        "x/file.txt": "../b/c.txt",
        "x/folder": "../b",
        "through": "x/folder",
        "gone.txt": "nothing.txt",
        "b/self": ".",
    }
    path = tmp_path / form
    if form == "folder":
        (path / "b").mkdir(parents=True)
        (path / "x").mkdir()
        (path / "b" / "c.txt").write_bytes(b"c")
        for name, target in links.items():
            (path / name).symlink_to(target)
    elif form == "a.zip":
        linked_zip(path, {"b/c.txt": b"c"}, links)
    else:
        kinds = {name: (target, tarfile.SYMTYPE) for name, target in links.items()}
        tar(path, {"b/c.txt": b"c"}, kinds | {"hard.txt": ("b/c.txt", tarfile.LNKTYPE)})
    inventory = Inventory()
    found = dict(contents(path, lambda name: name.endswith(".txt"), inventory))
    assert set(found.values()) == {b"c"}
    expected = {"b/c.txt", "x/file.txt", "x/folder/c.txt", "through/c.txt"}
    assert found.keys() == expected | ({"hard.txt"} if form.startswith("a.tar") else set())
    assert inventory.skipped["links that lead nowhere or in a circle"] >= 2


def test_what_is_left_out_is_counted(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.txt": b"", "b.TXT": b"", "c.jpg": b"", "README": b"", ".hidden.txt": b""})
    inventory = Inventory()
    assert len(list(contents(path, lambda name: name.lower().endswith(".txt"), inventory))) == 2
    inventory.remarks["files in UTF-16"] += 2
    inventory.note("validation is small")
    found = inventory.to_json()
    assert found_lines(found) == [
        "read 2 .txt files",
        "left out 1 .jpg files, for example c.jpg",
        "left out 1 files without an extension, for example README",
        "left out 1 hidden files, for example .hidden.txt",
        "2 files in UTF-16",
        "validation is small",
    ]
    assert found == {
        "read": {".txt files": 2},
        "skipped": {
            ".jpg files": {"count": 1, "for_example": "c.jpg"},
            "files without an extension": {"count": 1, "for_example": "README"},
            "hidden files": {"count": 1, "for_example": ".hidden.txt"},
        },
        "notes": ["2 files in UTF-16", "validation is small"],
    }


@pytest.mark.parametrize("form", [tar, zipped])
def test_links_that_multiply_names_are_refused(tmp_path, monkeypatch, form):
    """Each folder has two links to the one before: with n folders, 2 ** n names of one file."""
    monkeypatch.setattr("decaylab.data.archives._MOST_ALIASES", 1000)
    links = {f"d{n}/{side}": f"../d{n - 1}" for n in range(1, 12) for side in "ab"}
    if form is tar:
        path = tar(tmp_path / "a.tar", {"d0/x.txt": b"x"}, {n: (t, tarfile.SYMTYPE) for n, t in links.items()})
    else:
        path = linked_zip(tmp_path / "a.zip", {"d0/x.txt": b"x"}, links)
    with pytest.raises(InputError, match=r"its links give more than 1,000 names; refused"):
        everything(path)


def test_a_link_out_of_a_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../secret")
    with pytest.raises(InputError, match=r"member 'link\.txt' leads out"):
        everything(path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.bz2", "a.zip"])
@pytest.mark.parametrize("damage", ["rubbish", "cut"])
def test_a_corrupt_archive_is_one_line(tmp_path, name, damage):
    path = tmp_path / name
    (zipped if name == "a.zip" else tar)(path, {"a.txt": os.urandom(100_000), "b.txt": os.urandom(100_000)})
    path.write_bytes(os.urandom(5000) if damage == "rubbish" else path.read_bytes()[:120_000])
    with pytest.raises(InputError, match=r"^\S*a\.\S+: damaged archive \(.*\)$"):
        everything(path)


def test_missing_and_unreadable(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nothing\.tar: cannot be read \(No such file"):
        everything(tmp_path / "nothing.tar")
    with pytest.raises(InputError, match=r"nothing\.dat: cannot be read: expected a folder or \.tar, "):
        everything(tmp_path / "nothing.dat")
    with pytest.raises(InputError, match=r"nothing\.rar: cannot be read: unpack it, and give the folder"):
        everything(tmp_path / "nothing.rar")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    # root may read everything, so the refusal is simulated
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=rf"^{tmp_path}: cannot be read \(Permission denied\)$"):
        everything(tmp_path)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    path = tar(tmp_path / "a.tar", {f"{number}.txt": b"x" * 600 for number in range(20)})
    content = bytearray(path.read_bytes())
    assert len(everything(path)) == 20
    for place, words in ((10 * 1536 + 3, "bad checksum"), (len(content) - 100, "data follow its end mark")):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"a\.tar: damaged archive \({words}"):
            everything(path)
    path.write_bytes(content[: 10 * 1536])
    with pytest.raises(InputError, match=r"a\.tar: damaged archive \(it ends without an end mark"):
        everything(path)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_the_checksum_at_the_end_of_a_compressed_archive_is_verified(tmp_path, name):
    path = tar(tmp_path / name, {"a.txt": b"x" * 600})
    content = bytearray(path.read_bytes())
    content[-6 if name == "a.tar.gz" else -3] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tar\.\w+: damaged archive"):
        everything(path)


def test_zstandard(tmp_path):
    path = tar(tmp_path / "a.tar", FILES)
    packed = tmp_path / "a.tar.zst"
    with pyarrow.CompressedOutputStream(str(packed), "zstd") as file:
        file.write(path.read_bytes())
    assert everything(packed) == everything(path)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.tar\.zst: damaged archive"):
        everything(packed)


def test_encrypted_and_unusual_zips_are_not_called_damaged(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.txt": b"some text " * 100})
    content = path.read_bytes()
    local, central = content.index(b"PK\3\4"), content.index(b"PK\1\2")
    for offsets, value, words in (
        ((6, 8), 1, "encrypted; unpack it with its password"),
        ((8, 10), 9, "compressed by Deflate64, which Python cannot read"),
    ):
        changed = bytearray(content)
        changed[local + offsets[0]] = changed[central + offsets[1]] = value
        path.write_bytes(changed)
        with pytest.raises(InputError, match=rf"a\.zip: {words}"):
            everything(path)


def test_names_that_are_no_utf8(tmp_path):
    """A name in latin-1 in a folder and a tar, and one in UTF-8 that a zip does not declare."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder / os.fsdecode(b"caf\xe9.txt"), "caf\xe9.txt")
    for path in (folder, tmp_path / "a.tar"):
        (name,) = everything(path)
        assert printable(name) == "caf\\xe9.txt"
    assert len(digest(folder)) == 64
    path = zipped(tmp_path / "a.zip", {"caf\xe9.txt": b"x"})
    content = bytearray(path.read_bytes())
    for start, offset in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        content[content.index(start) + offset] &= ~8
    path.write_bytes(content)
    assert list(everything(path)) == ["caf\xe9.txt"]
