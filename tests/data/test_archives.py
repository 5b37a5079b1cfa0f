"""Archives and folders: what is read, and that bad ones are refused in one line."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from decaylab.data.archives import contents, is_archive
from decaylab.errors import InputError

FILES = {"top/train/cat/1.txt": b"one", "top/train/dog/2.txt": b"two", "top/.hidden.txt": b"no"}


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


def test_a_link_inside_is_harmless_and_left_out(tmp_path):
    path = tar(tmp_path / "a.tar", {"b/c.txt": b"c"}, {"a/link.txt": ("../b/c.txt", tarfile.SYMTYPE)})
    assert everything(path) == {"b/c.txt": b"c"}


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
    with pytest.raises(InputError, match=r"^\S*a\.\S+: corrupt archive \(.*\)$"):
        everything(path)


def test_missing_and_unreadable(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nothing\.tar: cannot be read \(No such file"):
        everything(tmp_path / "nothing.tar")
    with pytest.raises(InputError, match=r"expected a folder or an archive"):
        everything(tmp_path / "nothing.rar")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    # root may read everything, so the refusal is simulated
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=rf"^{tmp_path}: cannot be read \(Permission denied\)$"):
        everything(tmp_path)
