import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decaylab.errors import InputError
from decaylab.spec import RunSpec, dump_spec, load_spec, parse_spec
from decaylab.yaml_files import load_yaml, merge, set_path

IMAGES = {
    "data": {"kind": "images", "source": "procedural", "train_examples": 100, "test_examples": 50},
    "model": {"kind": "mlp"},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
    "steps": 100,
    "batch_size": 10,
    "evaluation": {"every": 10, "log_every": 5},
    "seed": 0,
}
TEXT = IMAGES | {
    "data": {"kind": "text"},
    "model": {"kind": "gpt"},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
}


def spec(**changes):
    return parse_spec(merge(IMAGES, changes), "spec")


def test_equal_specs_have_one_id_whatever_was_written_out():
    assert spec().run_id == spec(decay={"weight_decay": 0}, precision="float32", ema=None).run_id
    assert spec().run_id == RunSpec.model_validate(json.loads(dump_spec(spec()))).run_id
    assert spec(snapshots=[10]).run_id == spec().run_id, "a snapshot changes no number"
    assert spec(seed=1).run_id != spec().run_id
    assert spec(seed=1).arm_id() == spec(init_seed=3, data_seed=4).arm_id() == spec().arm_id()


def test_ids_never_change():
    """Evidence is filed under them. If this fails, a field was added without the default None."""
    assert spec().run_id == "mlp-lr0.1-wd0-s0-ee3e8ebdf7"
    assert parse_spec(TEXT, "t").run_id == "gpt-lr0.001-wd0-s0-f21990adcf"


@given(st.floats(1e-12, 1e6), st.floats(0, 1e6), st.integers(-(2**31), 2**31))
def test_ids_are_file_names(learning_rate, weight_decay, seed):
    run_id = spec(optimizer={"learning_rate": learning_rate}, decay={"weight_decay": weight_decay}, seed=seed).run_id
    assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in run_id)


def test_a_start_is_part_of_the_id_but_its_snapshots_are_not():
    def child(**parent):
        run = spec(**parent).model_dump(mode="json")
        return spec(start={"run": run, "step": 50})

    assert child().run_id == child(snapshots=[50]).run_id
    assert len({child().run_id, child(seed=1).run_id, spec().run_id}) == 3
    assert child().arm_id() == child(seed=1).arm_id()


def test_a_copy_does_not_keep_the_id_of_its_original():
    known = spec()
    assert known.run_id == known.model_copy(deep=True).run_id
    changed = known.model_copy(update={"seed": 1})
    assert changed.run_id == spec(seed=1).run_id != known.run_id
    assert known == spec(), "an id that was asked for is no field"
    assert "run_id" not in known.model_dump()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stesp": 5}, "stesp: unknown key"),
        ({"model": {"kind": "mlp", "widht": 5}}, "model.widht: unknown key"),
        ({"model": {"kind": "rnn"}}, "model: Input tag 'rnn'"),
        ({"steps": None}, "steps: Input should be a valid integer, got None"),
        ({"steps": 0}, "steps: Input should be greater than 0, got 0"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate: Input should be a finite number"),
        ({"optimizer": {"learning_rate": "big"}}, "optimizer.learning_rate: Input should be a valid number"),
        ({"decay": {"weight_decay": -1}}, "decay.weight_decay: Input should be greater than or equal to 0"),
        ({"decay": {"multipliers": {"mpl": 1}}}, "decay.multipliers.mpl"),
        (
            {"decay": {"form": "adam"}},
            "decay.form: expected one of adamc, cautious, decoupled, gradient_norm, independent, l2_",
        ),
        (
            {"decay": {"parameters": {"beta": 1}}},
            "decay.parameters: decoupled has no beta; expected no parameters",
        ),
        ({"decay": {"form": "adamc"}}, "optimizer.name: decay form adamc needs adamw, got sgd"),
        (
            {"decay": {"form": "l2_loss", "schedule": {"kind": "linear"}}},
            "decay form l2_loss needs constant, got linear",
        ),
        ({"data": {"train_examples": None}}, "procedural images need train_examples"),
        ({"data": {"source": "cifar10", "fresh": True}}, "fresh is for generated images only, not cifar10"),
        ({"model": {"kind": "gpt"}}, "model gpt cannot be trained on images"),
        ({"micro_batch_size": 3}, "batch_size must be a multiple of micro_batch_size"),
        ({"schedule": {"warmup_steps": 101}}, "warmup_steps 101 is more than steps 100"),
        ({"schedule": {"kind": "step"}}, "schedule: drops are needed by the step schedule"),
        (
            {"schedule": {"drops": [{"step": 5, "learning_rate": 1}]}},
            "drops are needed by the step schedule, and by no",
        ),
        (
            {"schedule": {"kind": "step", "drops": [{"step": s, "learning_rate": 1} for s in (9, 5)]}},
            "drops must be in order",
        ),
        (
            {"schedule": {"kind": "step", "drops": [{"step": 100, "learning_rate": 1}]}},
            "the learning rate drops at step 100, but the run has 100",
        ),
        ({"snapshots": [101]}, "snapshot at step 101, but the run has 100"),
        ({"start": {"run": IMAGES, "step": 101}}, "starts from step 101 of a run of 100"),
        ({"start": {"run": IMAGES | {"model": {"kind": "vgg"}}, "step": 1}}, "starts from a run of another model"),
    ],
)
def test_impossible_specs_are_one_line(changes, words):
    with pytest.raises(InputError) as error:
        parse_spec(merge(IMAGES, changes), "file.yaml")
    assert str(error.value).startswith("file.yaml: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="model: width 768 is not divisible by heads 7"):
        parse_spec(merge(TEXT, {"model": {"heads": 7}}), "t")


def test_several_problems_are_counted():
    with pytest.raises(InputError, match=r"model: this key is required \(and 6 more\)"):
        parse_spec({"steps": 5, "data": IMAGES["data"], "batch": 1, "seeds": 2}, "t")


def test_a_spec_file_round_trip(tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(dump_spec(spec(ema=0.9)))
    assert load_spec(path) == spec(ema=0.9)


def test_yaml_reads_numbers_as_people_write_them(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-4\nb: 6E-4\nc: 1.5e3\nd: .5\ne: 1e4x\nf: 3\nbase: &base {x: 1}\ng: {<<: *base, y: 2}\n")
    value = load_yaml(path)
    assert [value[key] for key in "abcdef"] == [1e-4, 6e-4, 1500.0, 0.5, "1e4x", 3]
    assert value["g"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\na: 2\n", "line 2: expected YAML (key 'a' stands twice)"),
        (b"a: [1\nb: 2\n", "line 2: expected YAML"),
        (b"a: \xff\n", "expected YAML"),
        (b"? [1, 2]\n: 3\n", "expected YAML"),
        (b"a: 2024-13-45\n", "expected YAML"),
        (b"a: !!python/object:os.system {}\n", "expected YAML"),
        (b"a: \x00\n", "expected YAML"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_unreadable_yaml_is_one_line(tmp_path, content, words):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


mappings = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda value: isinstance(value, dict))


@given(mappings, mappings, mappings)
def test_merge_keeps_what_is_not_replaced(a, b, c):
    assert merge(a, a) == a
    assert merge({}, a) == merge(a, {}) == a
    assert merge(a, b, c) == merge(merge(a, b), c)
    assert merge(a, b).keys() == a.keys() | b.keys()


def test_another_kind_replaces_the_whole_block():
    base = {"model": {"kind": "mlp", "width": 5}, "optimizer": {"name": "sgd", "momentum": 0.9}}
    over = {"model": {"kind": "vgg"}, "optimizer": {"name": "sgd", "learning_rate": 1}}
    assert merge(base, over) == {
        "model": {"kind": "vgg"},
        "optimizer": {"name": "sgd", "momentum": 0.9, "learning_rate": 1},
    }
    assert base["model"] == {"kind": "mlp", "width": 5}, "the base is left alone"


def test_set_path():
    assert set_path({"a": {"b": 1, "c": 2}}, ("a", "b"), 3) == {"a": {"b": 3, "c": 2}}
    assert set_path({}, ("a", "b"), 3) == {"a": {"b": 3}}
