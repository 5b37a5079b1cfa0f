"""Procedural images: deterministic, disjoint, endless, and neither trivial nor hopeless."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decaylab.data import load, prepare
from decaylab.data.sources.procedural import World, _generate
from decaylab.data.store import meta
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.spec import ImageData

CPU = torch.device("cpu")


def spec(train: int = 100, test: int = 50, **fields) -> ImageData:
    return ImageData(train_examples=train, test_examples=test, **fields)


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_the_same_bytes_every_time(tmp_path):
    digests = []
    for name in ("a", "b"):
        _generate.cache_clear()
        digests.append(meta(prepare(spec(), Layout(tmp_path / name)))["data_sha256"])
    assert digests[0] == digests[1]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        _generate.cache_clear()
        assert meta(prepare(spec(), Layout(tmp_path / "c")))["data_sha256"] == digests[0]
    finally:
        torch.set_num_threads(threads)
    other = meta(prepare(spec(subset_seed=1), Layout(tmp_path / "d")))["data_sha256"]
    assert other != digests[0]


def test_train_and_test_are_disjoint_and_smaller_sets_lie_in_larger_ones():
    world = World(spec())
    large, labels = world.split("train", 1500)
    small, _ = world.split("train", 700)
    test, _ = world.split("test", 1500)
    assert len(set(rows(large)) | set(rows(test))) == 3000
    assert torch.equal(large[:700], small)
    assert torch.bincount(labels).tolist() == [150] * 10


@settings(max_examples=10)
@given(size=st.integers(4, 40), classes=st.integers(1, 12), clutter=st.floats(0, 2), noise=st.floats(0, 2))
def test_any_size_and_strength(size, classes, clutter, noise):
    data = spec(image_size=size, classes=classes, clutter=clutter, noise=noise)
    images = World(data).draw(torch.arange(classes), torch.Generator().manual_seed(0))
    assert images.shape == (classes, size, size, 3)
    assert images.dtype == torch.uint8
    assert images.float().std() > 10


def test_clutter_and_noise_change_the_images_not_the_labels():
    clean = World(spec(clutter=0, noise=0)).split("train", 50)
    for change in ({"clutter": 0.5, "noise": 0}, {"clutter": 0, "noise": 0.5}):
        changed = World(spec(**change)).split("train", 50)
        assert torch.equal(clean[1], changed[1])
        assert not torch.equal(clean[0], changed[0])


def test_fresh_batches_are_new_in_each_step_and_pure_in_seed_and_step(tmp_path):
    def fresh(seed):
        return load(spec(fresh=True), Layout(tmp_path), CPU, batch_size=200, seed=seed)

    data = fresh(0)
    assert data.steps_per_epoch is None
    batches = [data.batch(step) for step in range(8)]
    seen = [row for inputs, _ in batches for row in rows(inputs)]
    assert len(set(seen)) == len(seen) == 1600
    fixed = {row for split in ("train", "test") for inputs, _ in data.evaluation(split, None) for row in rows(inputs)}
    assert len(fixed) == 150
    assert fixed.isdisjoint(seen)
    for step in (7, 2, 0):
        assert all(torch.equal(a, b) for a, b in zip(batches[step], fresh(0).batch(step), strict=True))
    assert not torch.equal(fresh(1).batch(0)[0], batches[0][0])
    inputs, targets = batches[0]
    assert inputs.shape == (200, 3, 16, 16)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert targets.shape == (200,)
    assert abs(inputs.mean()) < 0.1


def test_fresh_images_may_be_augmented(tmp_path):
    data = load(spec(fresh=True), Layout(tmp_path), CPU, batch_size=8, seed=0)
    moved = load(spec(fresh=True, augmentation="flip_translate"), Layout(tmp_path), CPU, batch_size=8, seed=0)
    assert torch.equal(moved.batch(3)[1], data.batch(3)[1])
    assert not torch.equal(moved.batch(3)[0], data.batch(3)[0])


def test_fixed_images_visit_each_example_once(tmp_path):
    data = load(spec(), Layout(tmp_path), CPU, batch_size=20, seed=3)
    seen = [row for step in range(5) for row in rows(data.batch(step)[0])]
    assert sorted(seen) == sorted(rows(next(data.evaluation("train", None))[0]))


def test_a_batch_larger_than_the_set_is_refused_unless_fresh(tmp_path):
    with pytest.raises(InputError, match="batch_size 101: procedural has 100 training images"):
        load(spec(), Layout(tmp_path), CPU, batch_size=101, seed=0)
    data = load(spec(fresh=True), Layout(tmp_path), CPU, batch_size=101, seed=0)
    assert len(data.batch(0)[1]) == 101


def test_a_small_network_learns_more_than_chance_and_less_than_all(tmp_path):
    torch.manual_seed(0)
    data = load(spec(1000, 500), Layout(tmp_path), CPU, batch_size=50, seed=0)
    layers = [torch.nn.Conv2d(3, 16, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16 * 49, 10)]
    network = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for step in range(200):
        inputs, targets = data.batch(step)
        torch.nn.functional.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    inputs, targets = next(data.evaluation("test", None))
    error = (network(inputs).argmax(1) != targets).float().mean().item()
    assert 0.1 < error < 0.6
