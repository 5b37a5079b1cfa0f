"""Folders, archives, tables and arrays of labelled images: what is read, what is left out, what is refused."""

import io
import json
import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import ipc, parquet

from decaylab.data import prepare
from decaylab.data.store import meta
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.sources import choose
from decaylab.spec import ImageData


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def picture(number: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """A function that prepares a path and gives its meta.json, training and test arrays."""

    def prepared(path: Path):
        choice = choose("images", str(path))
        data = ImageData(**choice.fields(), image_size=4)
        folder = prepare(data, Layout(tmp_path / "results"), choice)
        arrays = {name: np.load(folder / f"{name}.npy") for name in ("train_images", "train_labels", "test_labels")}
        return meta(folder), arrays

    return prepared


def tree(root: Path, names: list[str], start: int = 0) -> Path:
    for number, name in enumerate(names, start=start):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number))
    return root


def small(extra: list[str] = (), train: str = "train", test: str = "test") -> list[str]:
    return [f"{split}/{label}/{i}.png" for split in (train, test) for label in ("cat", "dog") for i in (0, 1)] + [
        *extra
    ]


def test_what_was_read_and_left_out_is_said(tmp_path, read):
    root = tree(tmp_path / "zoo", small(["docs/logo.png"]))
    (root / "README.md").write_text("about")
    (root / "train" / "cat" / ".hidden.png").write_bytes(b"")
    about, _ = read(root)
    assert about["found"] == {
        "read": {".png files": 8},
        "skipped": {
            "hidden files": {"count": 1, "for_example": "train/cat/.hidden.png"},
            ".md files": {"count": 1, "for_example": "README.md"},
            "images outside <split>/<class>/": {"count": 1, "for_example": "docs/logo.png"},
        },
        "notes": [],
    }


@pytest.mark.parametrize(("train", "test"), [("training", "testing"), ("Train", "VAL"), ("train", "validation")])
def test_usual_names_of_splits(tmp_path, read, train, test):
    about, _ = read(tree(tmp_path / "zoo", small(train=train, test=test)))
    assert about["examples"] == {"train": 4, "test": 4}


def test_a_top_folder_that_is_called_train(tmp_path, read):
    about, _ = read(tree(tmp_path / "x", [f"train/{name}" for name in small()]))
    assert about["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_nested_copy_is_read_once(tmp_path, read, form):
    """Fails on commit b58299d, which took every image twice."""
    root = tree(tmp_path / "zoo", small())
    tree(root / "copy", small())
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
            for path in root.rglob("*.png"):
                archive.write(path, path.relative_to(root))
        root = tmp_path / "zoo.zip"
    about, _ = read(root)
    assert about["examples"] == {"train": 4, "test": 4}
    assert about["found"]["skipped"]["images in a nested copy of others"]["count"] == 8


def test_linked_class_folders_are_read(tmp_path, read):
    root = tree(tmp_path / "zoo", ["train/cat/0.png", "test/cat/1.png"])
    tree(tmp_path / "pool", ["dogs/0.png", "others/1.png"], start=5)
    (root / "train" / "dog").symlink_to(tmp_path / "pool" / "dogs")
    (root / "test" / "dog").symlink_to(tmp_path / "pool" / "others")
    about, _ = read(root)
    assert about["examples"] == {"train": 2, "test": 2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/0.png"], r"no training images: expected train/<class>/<name> and test/<class>/<name>, found no images"),
        (["train/a/0.png", "train/b/1.png"], r"no held-out images: .* found only train \(.*testing, val"),
        (["train/a/0.png", "test/a/1.png"], r"expected at least two classes, found only a$"),
        (["train/Cat/0.png", "train/b/1.png", "test/cat/2.png"], r"test has classes .* by case only: 'cat' \('Cat' in"),
        (["train/a/0.png", "train/b/1.png", "test/c/2.png"], r"test has classes that are not in train: 'c'$"),
        (small(["train/bee/0.heic"]), r"no image was read of class bee, though its folder has files"),
        (
            [f"{split}/2020/{label}/0.png" for split in ("train", "test") for label in "ab"],
            r"all images lie below one class '2020', in folders a, b; expected train/<class>/<name>: move",
        ),
    ],
)
def test_layouts_that_lose_classes_are_refused_by_name(tmp_path, read, names, message):
    root = tree(tmp_path / "zoo", names)
    with pytest.raises(InputError, match=rf"zoo: {message}"):
        read(root)


def test_names_of_classes_in_either_unicode_form_and_in_no_utf8(tmp_path, read):
    forms = [unicodedata.normalize(form, "\u00e9t\u00e9") for form in ("NFC", "NFD")]
    latin = os.fsdecode(b"caf\xe9")
    names = [f"train/{forms[0]}/0.png", f"test/{forms[1]}/1.png", f"train/{latin}/0.png", f"test/{latin}/1.png"]
    about, _ = read(tree(tmp_path / "zoo", names))
    assert about["classes"] == ["caf\\xe9", forms[0]]


def test_a_path_that_is_no_utf8_is_one_line(tmp_path):
    path = tree(tmp_path / os.fsdecode(b"z\xe9ro"), small())
    with pytest.raises(InputError, match=r"z\\xe9ro: its name is not UTF-8; rename it"):
        choose("images", str(path))


def test_a_comma_in_a_path(tmp_path):
    (tmp_path / "a,b").mkdir()
    (tmp_path / "a").mkdir()
    assert choose("text", f"{tmp_path}/a,b").source == "a,b"
    assert choose("text", f"{tmp_path}/a,{tmp_path}/a,b").source == "a+a,b"


def test_leaks_repeats_and_images_of_one_colour(tmp_path, read):
    root = tree(tmp_path / "zoo", small([f"test/cat/{i}.png" for i in range(2, 5)]))
    (root / "test" / "cat" / "0.png").write_bytes(picture(0))
    (root / "train" / "dog" / "9.png").write_bytes(picture(0))
    flat = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(flat, "PNG")
    (root / "train" / "cat" / "9.png").write_bytes(flat.getvalue())
    about, _ = read(root)
    assert about["found"]["notes"] == [
        "train: 1 of 6 images are one colour or nearly so",
        "train: 1 of 6 images repeat an earlier one, 1 of them in another class",
        "test: 1 of 7 images (14.3%) also stand in train",
    ]
    for path in (root / "train").rglob("*.png"):
        (root / "test" / path.parent.name / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"zoo: test: \d+ of \d+ images \(\d\d\.\d%\) also stand in train$"):
        read(root)
    for path in root.rglob("*.png"):
        path.write_bytes(flat.getvalue())
    with pytest.raises(InputError, match=r"zoo: train: 6 of 6 images are one colour"):
        read(root)


def test_classes_that_are_rare_or_not_held_out_are_noted(tmp_path, read):
    root = tree(tmp_path / "zoo", [*small([f"train/cat/{i}.png" for i in range(2, 30)]), "train/emu/0.png"])
    notes = read(root)[0]["found"]["notes"]
    assert "no held-out images of class emu" in notes
    assert "train: classes differ in size: 1 images of emu, 30 of cat" in notes


def table(images: list[bytes], labels: list[int], names: list[str] | None) -> pa.Table:
    """As the datasets library writes it."""
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    built = pa.table({"image": [{"bytes": image, "path": None} for image in images], "label": labels})
    return (
        built.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}) if names else built
    )


def save(form: str, root: Path, split: str, content: pa.Table) -> None:
    if form == "parquet":
        (root / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(content, root / "data" / f"{split}-00000-of-00001.parquet")
    else:
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
        with ipc.new_stream(str(root / split / "data-00000-of-00001.arrow"), content.schema) as file:
            file.write_table(content)


@pytest.mark.parametrize("form", ["parquet", "save_to_disk"])
@pytest.mark.parametrize("names", [["zebra", "ant"], None])
def test_tables_of_images(tmp_path, read, form, names):
    root = tmp_path / "hub"
    labels = [1, 0] if names else [10, 9]
    save(form, root, "train", table([picture(0), picture(1)], labels, names))
    save(form, root, "test", table([picture(2)], labels[:1], names))
    about, arrays = read(root)
    assert about["classes"] == (names or ["9", "10"])
    np.testing.assert_array_equal(arrays["train_images"], [pixels(0), pixels(1)])
    assert arrays["train_labels"].tolist() == [1, 0]
    assert arrays["test_labels"].tolist() == [1]


def test_tables_that_cannot_be_used_name_their_columns(tmp_path, read):
    root = tmp_path / "hub"
    save("parquet", root, "train", pa.table({"text": ["a"], "score": [1.0]}))
    with pytest.raises(InputError, match=r"train-\S+: expected a column of images and one .* columns text, score$"):
        read(root)
    path = next(root.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=r"train-\S+\.parquet: damaged table \("):
        read(root)
    save("parquet", root, "train", table([picture(0)], [5], ["a", "b"]))
    with pytest.raises(InputError, match=r"label 5: expected 0 \.\.\. 1$"):
        read(root)


@pytest.mark.parametrize(
    "keys", [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "val_images", "val_labels")]
)
def test_arrays_in_a_npz_file(tmp_path, read, keys):
    images = np.stack([pixels(number) for number in range(5)])
    path = tmp_path / "data.npz"
    np.savez_compressed(
        path, **dict(zip(keys, (images[:3], np.array([[10], [9], [9]]), images[3:], [9, 10]), strict=True))
    )
    about, arrays = read(path)
    assert about["classes"] == ["9", "10"]
    np.testing.assert_array_equal(arrays["train_images"], images[:3])
    assert arrays["train_labels"].tolist() == [1, 0, 0]


def test_a_file_of_medmnist(tmp_path, read):
    """Grey images, labels in a column, three splits of which training and test are used."""
    draws = np.random.default_rng(0)
    sizes = {"train": 6, "val": 3, "test": 4}
    arrays = {f"{split}_images": draws.integers(0, 256, (n, 4, 4), dtype=np.uint8) for split, n in sizes.items()}
    arrays |= {f"{split}_labels": (np.arange(n) % 2).astype(np.uint8)[:, None] for split, n in sizes.items()}
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    about, found = read(tmp_path / "pneumoniamnist.npz")
    assert about["classes"] == ["0", "1"]
    np.testing.assert_array_equal(found["train_images"], arrays["train_images"][..., None].repeat(3, 3))
    assert found["test_labels"].tolist() == [0, 1, 0, 1]
    assert about["found"]["skipped"]["images of splits that are not used"]["count"] == 3


def test_npz_files_that_cannot_be_used(tmp_path, read):
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((2, 4, 4)), labels=[0, 1])
    with pytest.raises(InputError, match=r"data\.npz: expected arrays named like x_train, .* found images, labels$"):
        read(path)
    np.savez(path, x_train=np.zeros((2, 4, 4)), y_train=[0.5, 1])
    with pytest.raises(InputError, match=r"data\.npz: train labels: expected 2 integers, got float64 of shape \[2\]$"):
        read(path)
    np.savez(path, x_train=np.array([{}, {}], dtype=object), y_train=[0, 1])
    with pytest.raises(InputError, match=r"data\.npz: cannot be read as arrays \("):
        read(path)
