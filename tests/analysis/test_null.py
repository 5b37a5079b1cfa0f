"""Claims without an effect, judged as real ones are: from files on disk, at all looks."""

import numpy as np
import pytest

from decaylab.analysis.judge import judge
from decaylab.analysis.looks import LOOKS
from decaylab.analysis.simulation import gaussian, skewed
from decaylab.replication import expand

SEEDS = LOOKS[-1]
GRIDS = {
    "mlp": {
        "label": "MLP",
        "axes": {
            "decay": {"off": {"decay": {"weight_decay": 0.0}}, "on": {"decay": {"weight_decay": 0.01}}},
            "seed": list(range(SEEDS)),
        },
    }
}
KINDS = [
    # direction, smallest effect and true difference in standard deviations; verdicts that are true of it
    ("above", 0.25, 0.0, {"negligible"}),
    ("below", 0.25, 0.0, {"negligible"}),
    ("above", 0.0, 0.0, set()),
    ("below", 0.0, 0.0, set()),
    ("above", 0.25, 0.25, set()),
    ("below", 0.25, -0.25, set()),
    ("within", 0.5, 0.0, {"reproduced"}),
    ("within", 0.5, 0.5, set()),
    ("within", 0.5, -0.5, set()),
]
REAL = [skewed(skewness) for skewness in (0.0, 0.3, -0.5, 0.5, 1.0, -1.6)]
"""shapes of the differences of 21 seeds that were measured, see simulation.MOMENTS"""


def false_verdicts(lab, count, samplers):
    """Number of false verdicts among `count` claims at their last look, and at any look."""
    rng = np.random.default_rng(3)
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    noise = np.concatenate([samplers[number % len(samplers)](rng, (1, SEEDS)) for number in range(count)])
    values = 0.1 * (noise + np.array([[truth] for _, _, truth, _ in kinds]))
    shared = rng.normal(size=SEEDS)
    claims = [
        {
            "id": f"claim-{number}",
            "looks": {"laptop": list(LOOKS)},
            **lab.test(
                metric=f"metric_{number}",
                arm={"grid": "mlp", "decay": "on"},
                minus={"grid": "mlp", "decay": "off"},
                direction=direction,
                smallest_effect=0.1 * effect,
            ),
        }
        for number, (direction, effect, _, _) in enumerate(kinds)
    ]
    rep = lab.replication(*claims, grids=GRIDS, scales={})
    wrong = set()
    by_seed = {}
    for spec, p, _ in expand(rep, "laptop"):
        by_seed.setdefault(p["seed"], []).append((spec, p))
    for seed in range(SEEDS):
        for spec, p in by_seed[seed]:
            difference = values[:, seed] * (p["decay"] == "on")
            lab.run(spec, {f"metric_{i}": float(2 + shared[seed] + difference[i]) for i in range(count)})
        if seed + 1 in LOOKS:
            for claim, (*_, true) in zip(judge(rep, lab.workspace()).claims, kinds, strict=True):
                if claim.verdict not in {"inconclusive", *true}:
                    wrong.add(claim.claim)
    return len(wrong)


@pytest.mark.parametrize("samplers", [[gaussian], REAL], ids=["gaussian", "real"])
def test_few_claims_without_an_effect_are_decided_wrongly(lab, samplers):
    """Short form: at most 5 %, with two standard errors of 90 claims to spare."""
    assert false_verdicts(lab, 90, samplers) <= 90 * 0.05 + 2 * (90 * 0.05 * 0.95) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("samplers", [[gaussian], REAL], ids=["gaussian", "real"])
def test_at_most_one_claim_in_twenty_without_an_effect_is_decided_wrongly(lab, samplers):
    assert false_verdicts(lab, 1000, samplers) <= 50
