import itertools
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from decaylab.errors import InputError
from decaylab.replication import (
    Claim,
    Replication,
    claim_lines,
    expand,
    grids_at,
    list_replications,
    load_replication,
    matches,
    plan_runs,
    replication_file,
    select,
)
from decaylab.sources import Choice
from decaylab.workspace import SCALES, find_root

TEXT = """\
title: Tiny
question: Does decay help?
row: 3
headline: false
references: [{id: E1, title: Paper, url: https://example.org, locator: Fig 1}]
base:
  data: {kind: images, source: procedural, train_examples: 100, test_examples: 50}
  model: {kind: mlp}
  optimizer: {name: sgd, learning_rate: 0.1}
  steps: 100
  batch_size: 10
  evaluation: {every: 10, log_every: 5}
grids:
  main:
    label: MLP
    axes:
      learning_rate: [0.1, 0.3]
      decay:
        none: {decay: {weight_decay: 0}}
        some: {decay: {weight_decay: 0.01}}
      seed: [0, 1]
  tuned:
    label: fine-tuned copies
    start: {grid: main, where: {learning_rate: 0.3}, at: [0.5, 1.0]}
    base: {steps: 10, optimizer: {learning_rate: 0.01}}
    axes: {weight_decay: [0.0]}
scales:
  smoke:
    base: {steps: 20}
    grids:
      main: {axes: {seed: [0]}, only: [{learning_rate: 0.3}]}
  gpu:
    base: {model: {kind: vgg, width: 8}}
    grids:
      main: {label: VGG, axes: {seed: [0, 1, 2], precision: [float32, bfloat16]}}
      tuned: {skip: true}
    add:
      extra: {label: more, axes: {learning_rate: [0.5], seed: [7]}}
claims:
  - id: decay-helps
    statement: Decay helps.
    locator: Fig 1
    unit: test error (fraction)
    source_value: {text: "14.6 -> 10.4"}
    tests:
      - {metric: test_error, arm: {grid: main}, direction: below, smallest_effect: 0.01}
    scales: [gpu]
  - id: second
    statement: Another.
    locator: Fig 2
    unit: nats
    source_value: {text: "none"}
    tests:
      - {metric: {name: test_loss, at: 0.5}, arm: {grid: main}, direction: within, smallest_effect: 0.01}
    scales: [paper]
"""


@pytest.fixture
def clone(tmp_path):
    write(tmp_path, TEXT)
    return tmp_path


def write(root, text, name="tiny") -> Path:
    path = replication_file(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def changed(root, **changes) -> Replication:
    return load_replication(write(root, json.dumps(yaml.safe_load(TEXT) | changes)))


def grid(**keys):
    return {"label": "g", "axes": {"seed": [0]}} | keys


def test_a_grid_is_every_combination(clone):
    rep = load_replication(replication_file(clone, "tiny"))
    runs = [(spec, parameters) for spec, parameters, _ in expand(rep, "paper") if parameters["grid"] == "main"]
    found = [(p["learning_rate"], p["decay"], p["seed"]) for _, p in runs]
    assert found == list(itertools.product([0.1, 0.3], ["none", "some"], [0, 1]))
    for spec, parameters in runs:
        assert spec.optimizer.learning_rate == parameters["learning_rate"]
        assert spec.decay.weight_decay == {"none": 0, "some": 0.01}[parameters["decay"]]
        assert spec.seed == parameters["seed"]
    assert len({spec.run_id for spec, _ in runs}) == 8


def test_children_start_from_snapshots_of_their_parents(clone):
    runs = expand(load_replication(replication_file(clone, "tiny")), "paper")
    parents = {spec.run_id: spec for spec, _, _ in runs if spec.start is None}
    children = [(spec, parameters) for spec, parameters, _ in runs if spec.start]
    assert len(children) == 2 * 2 * 2
    assert [spec.start is None for spec, _, _ in runs] == [True] * 8 + [False] * 8, "parents first"
    for spec, parameters in children:
        parent = parents[spec.start.run.run_id]
        assert parent.optimizer.learning_rate == 0.3
        assert parent.snapshots == (50, 100)
        assert spec.start.step == round(parameters["start_at"] * 100)
        assert (spec.steps, spec.optimizer.learning_rate, spec.seed) == (10, 0.01, parent.seed)
        assert (parameters["grid"], parameters["decay"]) == ("tuned", parameters["decay"])
        assert spec.decay.weight_decay == 0, "its own axis, after the parent's setting"
    assert all(not spec.snapshots for spec in parents.values() if spec.optimizer.learning_rate == 0.1)


def test_runs_follow_those_of_another_grid(tmp_path):
    probed = {"evaluation": {"every": 10, "log_every": 10, "probes": [{"matrix_norms": {"every": 10}}]}}
    main = grid(base=probed, axes={"weight_decay": [0, 0.1], "seed": [0, 1]})
    replay = {
        "label": "g",
        "follow": {"grid": "main", "where": {"weight_decay": 0.1}},
        "base": {"decay": {"weight_decay": 0}},
        "axes": {"follow.per": ["all", "matrix"], "match": {"norm": {"follow": {"match": "norm"}}}},
    }
    rep = changed(tmp_path, grids={"replay": replay, "main": main}, claims=[], scales={}, regimes={})
    runs = expand(rep, "paper")
    parents = {spec.run_id: spec for spec, p, _ in runs if p["grid"] == "main"}
    children = [(spec, p) for spec, p, _ in runs if p["grid"] == "replay"]
    assert [spec.depth for spec, _, _ in runs] == [0] * 4 + [1] * 4
    assert sorted((p["seed"], p["follow.per"]) for _, p in children) == [
        (s, u) for s in (0, 1) for u in ("all", "matrix")
    ]
    for spec, parameters in children:
        assert parents[spec.follow.run.run_id].seed == spec.seed == parameters["seed"]
        assert spec.follow.run.decay.weight_decay == parameters["weight_decay"] == 0.1
        assert (spec.decay.weight_decay, spec.follow.per, spec.follow.match) == (0, parameters["follow.per"], "norm")
    with pytest.raises(InputError, match="`start` or `follow`, not both"):
        changed(tmp_path, grids={"main": main, "replay": replay | {"start": {"grid": "main", "at": [1.0]}}})
    lost = replay | {"follow": {"grid": "mian"}}
    with pytest.raises(InputError, match=r"grids\.replay\.follow\.grid: there is no grid 'mian'"):
        expand(changed(tmp_path, grids={"main": main, "replay": lost}, claims=[], scales={}, regimes={}), "paper")


def test_scales_change_base_axes_and_grids(clone):
    rep = load_replication(replication_file(clone, "tiny"))
    smoke = expand(rep, "smoke")
    assert [p["seed"] for _, p, _ in smoke if p["grid"] == "main"] == [0, 0]
    assert {spec.steps for spec, p, _ in smoke if p["grid"] == "main"} == {20}
    assert {spec.start.step for spec, _, _ in smoke if spec.start} == {10, 20}
    grids = grids_at(rep, "gpu")
    assert (set(grids), grids["main"].label) == ({"main", "extra"}, "VGG")
    gpu = expand(rep, "gpu")
    assert len(gpu) == 2 * 2 * 3 * 2 + 1
    assert {spec.model.kind for spec, _, _ in gpu} == {"vgg"}
    assert {spec.precision for spec, _, _ in gpu} == {"float32", "bfloat16"}
    assert gpu[-1][1] == {"grid": "extra", "learning_rate": 0.5, "seed": 7}
    assert [spec.run_id for spec, _, _ in expand(rep, "laptop")] == [spec.run_id for spec, _, _ in expand(rep, "paper")]


def test_an_axis_can_be_removed(tmp_path):
    rep = changed(tmp_path, scales={"smoke": {"base": {"seed": 5}, "grids": {"main": {"axes": {"seed": None}}}}})
    main = [(spec.seed, p) for spec, p, _ in expand(rep, "smoke") if p["grid"] == "main"]
    assert {seed for seed, _ in main} == {5}
    assert all("seed" not in p for _, p in main)


def test_equal_specs_of_two_replications_are_one_run(tmp_path):
    first = changed(tmp_path)
    second = load_replication(write(tmp_path, TEXT.replace("row: 3", "row: 4"), "other"))
    runs = plan_runs([first, second], "paper")
    assert len(runs) == 16
    for run_id, run in runs.items():
        assert run.run_id == run_id
        assert set(run.wanted) == {"tiny", "other"}
    order = [bool(run.spec.start) for run in runs.values()]
    assert order == sorted(order), "parents first"


def test_a_run_that_two_grids_want_keeps_all_their_snapshots_and_the_lowest_priority(tmp_path):
    grids = {
        "a": grid(priority=5),
        "b": grid(priority=2),
        "c": grid(start={"grid": "a", "at": [0.5]}, axes={"steps": [7]}),
        "d": grid(start={"grid": "b", "at": [0.25]}, axes={"steps": [7]}),
    }
    runs = plan_runs([changed(tmp_path, grids=grids, scales={})], "paper")
    parent = next(iter(runs.values()))
    assert (len(runs), parent.spec.snapshots, parent.priority) == (3, (25, 50), 2)
    assert [p["grid"] for p in parent.wanted["tiny"]] == ["a", "b"]


def test_a_chosen_source_replaces_the_data_of_parents_and_children(clone):
    rep = load_replication(replication_file(clone, "tiny"))
    runs = expand(rep, "paper", {"images": Choice("photos", "a" * 64), "text": Choice("stdlib")})
    ids = {spec.run_id for spec, _, _ in runs}
    for spec, _, _ in runs:
        assert (spec.data.source, spec.data.sha256) == ("photos", "a" * 64)
        if spec.start:
            assert spec.start.run.data.source == "photos"
            assert spec.start.run.run_id in ids
    assert ids.isdisjoint(spec.run_id for spec, _, _ in expand(rep, "paper"))
    back = expand(rep, "paper", {"images": Choice("cifar10")})
    assert {(spec.data.source, spec.data.sha256) for spec, _, _ in back} == {("cifar10", None)}


def test_a_run_that_goes_on_with_other_data_keeps_them(tmp_path):
    """`text=` replaces what the parents read. Their children follow if they read the same, else not, nor do theirs."""
    grids = {
        "same": {"label": "s", "start": {"grid": "main", "at": [1.0]}, "base": {"steps": 7}},
        "other": {"label": "o", "start": {"grid": "main", "at": [1.0]}, "base": {"data": {"source": "cifar10"}}},
        "later": {"label": "l", "start": {"grid": "other", "at": [1.0]}, "base": {"steps": 9}},
        "main": {"label": "m", "axes": {"seed": [0]}},
    }
    rep = changed(tmp_path, grids=grids, scales={})
    choice = {"images": Choice("photos", "a" * 64)}
    sources = {
        parameters["grid"]: (spec.data.source, spec.data.sha256, spec.start and spec.start.run.data.source)
        for spec, parameters, _ in expand(rep, "paper", choice)
    }
    assert sources == {
        "main": ("photos", "a" * 64, None),
        "same": ("photos", "a" * 64, "photos"),
        "other": ("cifar10", None, "photos"),
        "later": ("cifar10", None, "cifar10"),
    }


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
)
def test_matches_is_being_a_part_of(parameters, where):
    assert matches(parameters, where) == (where.items() <= parameters.items())
    assert matches(parameters, {key: [value, 99] for key, value in where.items()}) == matches(parameters, where)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("row: 3", "row: three", "3: row: Input should be a valid integer"),
        ("row: 3", "row: 3\nrwo: 4", "4: rwo: unknown key"),
        ("title: Tiny\n", "", "title: this key is required"),
        ("title: Tiny", "name: other\ntitle: Tiny", "name: expected 'tiny', as the folder, got 'other'"),
        ("id: second", "id: decay-helps", "claim decay-helps stands twice"),
        ("id: second", "id: Not_A_Slug", "yaml:48: claims.1.id: String should match pattern"),
        ("      main: {axes: {seed: [0]}, only", "      mian: {axes: {seed: [0]}, only", "there is no grid 'mian'"),
        ("      extra: {label", "      main: {label", "grid 'main' exists already; use grids"),
        ("seed: [0, 1]\n", "seed: []\n", "axis seed has no values"),
        ("seed: [0, 1]\n", "dropout: [0.1]\n", "axis dropout has plain values, but is no path of the spec"),
        ("precision: [float32, bfloat16]", "dropout: [0.1]", "axis dropout has plain values"),
        ("precision: [float32, bfloat16]", "precision: []", "axis precision has no values"),
        ("tuned: {skip: true}", "tuned: {start: {were: {}}}", "scales.gpu.grids.tuned: start.were: unknown key"),
        (
            "main: {label: VGG,",
            "main: {start: {at: [0.5]}, label: VGG,",
            "gpu.grids.main: start.grid: this key is required",
        ),
        ("direction: below", "direction: down", "tests.0.direction: Input should be 'above', 'below' or 'within'"),
        ("direction: below, smallest_effect: 0.01", "direction: within, smallest_effect: 0", "needs a smallest effect"),
        ("arm: {grid: main}, direction: below", "direction: below", "a test selects an arm"),
        ("metric: test_error,", "metric: test_error, terms: [],", "a test selects an arm"),
        ("metric: test_error,", "metric: test_error, minus: {a: 1}, slope_over: seed,", "a slope has no contrast"),
        ("metric: test_error,", "metric: test_error, slope_over: seed, optimum_over: seed,", "not both"),
        ("metric: test_error,", "metric: test_error, kind: proportion, optimum_over: seed,", "is of one arm"),
        ("metric: test_error,", "metric: test_error, minus: {a: 1}, kind: proportion,", "a proportion is of one arm"),
        (
            "metric: test_error,",
            "metric: test_error, reference: 0.5, kind: proportion,",
            "a proportion has no reference",
        ),
        ("at: 0.5}", "at: 1.5}", "tests.0.metric.at: Input should be less than or equal to 1"),
        ("at: 0.5}", "at: 0.5, over: [0, 1]}", "a metric has one of `at`, `over` and `when`"),
        ("at: 0.5}", "over: [0.5, 0.5]}", "`over` needs two fractions of the run in ascending order"),
        (
            "where: {learning_rate: 0.3}",
            "where: {learning_rate: 0.7}",
            "tuned.start.where: no run of grid 'main'",
        ),
        ("start: {grid: main", "start: {grid: mian", "grids.tuned.start.grid: there is no grid 'mian' at this scale"),
        ("start: {grid: main", "start: {grid: tuned", "grids tuned: each starts from another"),
        ("{kind: mlp}", "{kind: gpt}", "paper: grid=main, learning_rate=0.1, decay=none, seed=0: model gpt cannot"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, old, new, words):
    assert TEXT.count(old) == 1
    path = write(tmp_path, TEXT.replace(old, new))

    def use():
        rep = load_replication(path)
        for scale in ("gpu", "paper"):
            expand(rep, scale)

    with pytest.raises(InputError) as error:
        use()
    message = str(error.value)
    assert words in message
    assert "replications/tiny/replication.yaml" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "- 1", "a: [", "text"])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path, content):
    with pytest.raises(InputError) as error:
        load_replication(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_lines_of_claims(clone):
    path = replication_file(clone, "tiny")
    lines = path.read_text().splitlines()
    for claim, line in claim_lines(path).items():
        assert lines[line - 1] == f"  - id: {claim}"


def test_a_claims_digest_follows_its_test_but_not_its_notes(clone):
    (claim, _) = load_replication(replication_file(clone, "tiny")).claims
    content = claim.model_dump()
    same = content | {"note": "n", "locator": "Fig 9", "source_value": {"text": "other"}}
    assert Claim.model_validate(same).sha256() == claim.sha256()
    for change in ({"statement": "No."}, {"scales": ["paper"]}, {"unit": "nats"}):
        assert Claim.model_validate(content | change).sha256() != claim.sha256()
    tests = [content["tests"][0] | {"smallest_effect": 0.02}]
    assert Claim.model_validate(content | {"tests": tests}).sha256() != claim.sha256()


def test_a_claims_digest_never_changes(clone):
    """The registry knows claims by it. If this fails, a field was added without the default None."""
    (claim, _) = load_replication(replication_file(clone, "tiny")).claims
    assert claim.sha256() == "8ffa8c3c0cdf483242e93a064e009cdfa23c23d53d7076eace1688ba9db00b36"


def test_replications_are_listed_by_row_and_selected_by_name(tmp_path):
    write(tmp_path, TEXT)
    write(tmp_path, TEXT.replace("row: 3\nheadline: false", "row: 1\nheadline: true"), "zeta")
    assert list_replications(tmp_path) == ["zeta", "tiny"]
    for words, names in (("all", ["zeta", "tiny"]), ("headline", ["zeta"]), ("tiny,zeta", ["zeta", "tiny"]), ("", [])):
        assert [rep.name for rep in select(tmp_path, words)] == names
    assert [rep.name for rep in select(tmp_path, ["tiny"])] == ["tiny"]
    with pytest.raises(InputError, match="replication 'tinny': unknown; expected one of all, headline, zeta, tiny"):
        select(tmp_path, "tinny")


def test_the_root_is_found_from_below(tmp_path):
    write(tmp_path, TEXT)
    assert find_root(tmp_path / "replications" / "tiny") == tmp_path
    with pytest.raises(InputError, match="no folder `replications` here or above"):
        find_root(Path("/"))


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("replications/*/replication.yaml")))
def test_every_replication_of_the_project_expands_at_every_scale(name):
    rep = load_replication(replication_file(ROOT, name))
    for scale in SCALES:
        assert expand(rep, scale), f"{name} has no run at {scale}"


def test_references_are_named_where_all_replications_share_them(clone):
    shared = clone / "replications" / "references.yaml"
    shared.write_text("E1: {title: Paper, year: 2024, url: https://example.org}\nT: {title: Post, url: https://a.b}\n")
    rep = changed(clone, references={"T": "part 3", "E1": "Fig 1"})
    assert [(entry.id, entry.title, entry.year, entry.locator) for entry in rep.references] == [
        ("T", "Post", None, "part 3"),
        ("E1", "Paper", 2024, "Fig 1"),
    ]
    shared.write_text("E1: {title: Another title, url: https://example.org}\n")
    assert changed(clone, references={"E1": "Fig 1"}).references[0].title == "Another title", "not the old file's"


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ("T: {title: Post, url: https://a.b}", "references: 'E9' is not in "),
        ("T: {title: Post, url: https://a.b}", "; expected T"),
        (None, "; expected a list of full references"),
        ("- T", "references.yaml: expected a mapping of ids to title, authors, year and url"),
        ("E9: {title: Post}", "references.0.url: this key is required"),
        ("E9: {title: Post, url: 'https://example.org', yaer: 1}", "references.0.yaer: unknown key"),
    ],
)
def test_a_wrong_reference_is_one_line(clone, shared, words):
    if shared:
        (clone / "replications" / "references.yaml").write_text(shared)
    with pytest.raises(InputError) as error:
        changed(clone, references={"E9": "Fig 1"})
    assert words in str(error.value)
    assert "\n" not in str(error.value)
