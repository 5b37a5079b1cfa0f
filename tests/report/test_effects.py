import itertools

import pandas as pd

from decaylab.report.effects import effects

FACTORS = {"decay": (0.1, 0.01), "dropout": ("with", "without"), "clipping": ("off", "on")}


def runs(seeds: int = 4) -> pd.DataFrame:
    """Decay changes the loss by 1, dropout by -0.5; both together by a further 0.25 on either diagonal."""
    rows = []
    for seed, *levels in itertools.product(range(seeds), *FACTORS.values()):
        decay, dropout, _ = (
            1 if level == FACTORS[name][1] else -1 for name, level in zip(FACTORS, levels, strict=True)
        )
        loss = seed + 0.5 * decay - 0.25 * dropout + 0.125 * decay * dropout
        rows.append(dict(zip(FACTORS, levels, strict=True)) | {"seed": seed, "loss": loss})
    return pd.DataFrame(rows)


def test_effects_and_interactions():
    table = effects(runs(), "loss", FACTORS).set_index("effect")
    assert table["loss"].str.split(" ").str[0].to_dict() == {
        "decay": "1.00",
        "dropout": "\u22120.500",
        "decay x dropout": "0.250",
        "clipping": "0.000",
        "decay x clipping": "0.000",
        "dropout x clipping": "0.000",
    }
    assert list(table.index[:3]) == ["decay", "dropout", "decay x dropout"]
    assert set(table["seeds"]) == {4}


def test_a_seed_without_every_combination_does_not_count():
    table = effects(runs().iloc[1:], "loss", FACTORS)
    assert set(table["seeds"]) == {3}
    assert effects(pd.DataFrame(), "loss", FACTORS).empty
