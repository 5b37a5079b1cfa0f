"""Parts of a GPT in float32, and what the rest computes in."""

import pandas as pd
import pytest
import torch

from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.spec import parse_spec
from decaylab.training.learner import Learner, stackable
from decaylab.training.loop import Interrupted, Options, train
from decaylab.yaml_files import merge
from tests.training.cases import IMAGES, TEXT

STORED = {"precision": "bfloat16_weights"}
PARTS = ["attention", "embedding", "linear", "logits", "norms", "optimizer", "residual"]
AUTOCAST_IS = ["embedding", "norms", "optimizer", "residual"]
"""what autocast keeps in float32"""


def run(**changes):
    base = TEXT | {"gradient_clip": None, "decay": {"weight_decay": 0.0}}
    return parse_spec(merge(base, {"model": {"layers": 2, "qk_norm": True, "bias": True}}, changes), "test")


def trained(steps: int = 6, tweak=None, **changes) -> tuple[list[float], Learner]:
    """Losses of a few steps, and the learner after them."""
    learner = Learner(run(**changes), 256, torch.device("cpu"))
    if tweak:
        tweak(learner)
    generator, losses = torch.Generator().manual_seed(1), []
    for step in range(steps):
        windows = torch.randint(256, (4, 17), generator=generator)
        losses.append(learner.backward((windows[:, :-1], windows[:, 1:])).item())
        learner.update(step, logged=False)
    return losses, learner


def same(one: tuple[list[float], Learner], other: tuple[list[float], Learner]) -> bool:
    weights = [[weight.float() for weight in learner.parameters.values()] for _, learner in (one, other)]
    return one[0] == other[0] and all(map(torch.equal, *weights))


@pytest.mark.parametrize("tied", [True, False])
def test_with_all_parts_it_is_float32_and_with_those_of_autocast_autocast(tied):
    model = {"model": {"tied": tied}}
    decay = {"decay": {"weight_decay": 0.5}}
    assert same(trained(**model, **decay), trained(**STORED, float32_parts=PARTS, **model, **decay))
    autocast = trained(precision="bfloat16", **model, **decay)
    assert same(autocast, trained(**STORED, float32_parts=AUTOCAST_IS, **model, **decay))
    wide = trained(precision="bfloat16", float32_parts=["attention", "linear", "logits"], **model, **decay)
    assert same(trained(**model, **decay), wide)


@pytest.mark.parametrize("tied", [True, False])
def test_without_any_part_it_is_a_network_stored_in_bfloat16(tied):
    def no_part(learner):
        learner.parts.parts = frozenset()

    model = {"model": {"tied": tied}}
    assert same(trained(**STORED, **model), trained(**STORED, float32_parts=["residual"], tweak=no_part, **model))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_changes_the_numbers_and_only_its_weights_are_stored_wide(part):
    (losses, learner), (plain, _) = trained(**STORED, float32_parts=[part]), trained(**STORED)
    assert losses != plain
    assert losses == pytest.approx(plain, rel=0.01)
    wide = {
        group for group, weight in learner.flat.groups.items() if not torch.equal(weight, weight.bfloat16().float())
    }
    expected = {"embedding": {"embedding"}, "linear": {"attention", "mlp", "bias"}, "norms": {"norm"}}
    everything = {"embedding", "attention", "mlp", "norm", "bias"}
    assert wide == (everything if part == "optimizer" else expected.get(part, set()))


def test_an_untied_head_is_stored_with_the_logits():
    _, learner = trained(**STORED, float32_parts=["logits"], model={"tied": False})
    head = learner.flat.groups["head"]
    assert not torch.equal(head, head.bfloat16().float())


@pytest.mark.parametrize("part", ["attention", "linear", "logits"])
def test_a_part_leaves_autocast_alone(part):
    (losses, _), (plain, _) = trained(precision="bfloat16", float32_parts=[part]), trained(precision="bfloat16")
    assert losses != plain
    assert losses == pytest.approx(plain, rel=0.01)


@pytest.mark.parametrize("changes", [{"float32_parts": [part]} for part in PARTS] + [{"rounding": "stochastic"}])
def test_the_functional_loss_is_the_loss_and_the_wide_one_is_that_of_float32(changes):
    _, learner = trained(**STORED, **changes)
    windows = torch.randint(256, (4, 17), generator=torch.Generator().manual_seed(2))
    batch = windows[:, :-1], windows[:, 1:]
    arguments = (learner.parameters, learner.buffers, *batch)
    assert torch.equal(learner.functional_loss()(*arguments), learner.loss(*batch))
    plain = Learner(run(), 256, torch.device("cpu"))
    plain.model.load_state_dict(learner.model.state_dict())
    assert torch.equal(learner.functional_loss(wide=True)(*arguments), plain.loss(*batch))


def test_a_run_with_stochastic_rounding_has_the_same_bits_after_an_interruption(tmp_path):
    spec = run(
        **STORED,
        rounding="stochastic",
        decay={"weight_decay": 0.5},
        ema=0.9,
        evaluation={"probes": ["attention", "lost_updates"]},
    )
    train(spec, Layout(tmp_path / "once"))
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        train(spec, Layout(tmp_path / "often"), Options(stop=lambda: next(asked) == 5))
    train(spec, Layout(tmp_path / "often"))
    once, often = (pd.read_parquet(Layout(tmp_path / name).metrics(spec.run_id)) for name in ("once", "often"))
    pd.testing.assert_frame_equal(once, often, check_exact=True)


def test_stochastic_rounding_is_another_run_for_each_seed_and_not_for_nearest():
    plain, nearest, stochastic = (run(**STORED, rounding=rounding) for rounding in (None, "nearest", "stochastic"))
    assert plain.run_id == nearest.run_id != stochastic.run_id
    noise = [trained(**STORED, rounding="stochastic", seed=seed, init_seed=7)[0] for seed in (0, 0, 1)]
    assert noise[0] == noise[1] != noise[2]


def test_the_order_of_parts_makes_no_other_run():
    one, other = (run(**STORED, float32_parts=parts) for parts in (["norms", "attention"], ["attention", "norms"]))
    assert one.run_id == other.run_id != run(**STORED).run_id
    assert run(**STORED, float32_parts=[]).run_id == run(**STORED).run_id
    assert stackable(one) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"float32_parts": ["softmax"]}, "float32_parts.0: Input should be 'attention', 'embedding', "),
        ({"float32_parts": ["norms"]}, "float32_parts: precision float32 has no parts in bfloat16"),
        (
            {"precision": "bfloat16", "float32_parts": ["norms"]},
            "under autocast, norms is in float32 anyway; expected some of attention, linear, logits",
        ),
        ({"precision": "bfloat16", "rounding": "stochastic"}, "rounding: precision bfloat16 rounds no weights"),
        (
            STORED | {"rounding": "stochastic", "float32_parts": ["optimizer"]},
            "rounding: no weight is rounded while the optimizer's step is in float32",
        ),
        (STORED | {"rounding": "stochastic", "norm_control": {"radius": 1.0}}, "do not go with norm_control"),
    ],
)
def test_impossible_parts_are_one_line(changes, words):
    with pytest.raises(InputError) as error:
        run(**changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_images_have_no_parts():
    with pytest.raises(InputError, match="rounding: expected a gpt, got preact_resnet"):
        parse_spec(IMAGES | STORED | {"rounding": "stochastic"}, "test")
