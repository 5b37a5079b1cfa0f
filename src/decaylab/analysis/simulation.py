"""Simulations that show what the looks of looks.py do, written into docs/statistics.md.

    python -m decaylab.analysis.simulation [--docs docs/statistics.md] [--evidence replications] [--repetitions 4000]

Samples are Gaussian, of known skewness, or resampled from the seed-paired differences of filed evidence (tests with at
least 16 seeds). Where no such evidence is filed, gamma distributions of measured or assumed skewness stand
in. Everything is judged by `looks.read`, as the judge does.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.analysis.looks import LOOK_CONFIDENCE, LOOKS, Test, read, value_interval
from decaylab.analysis.statistics import Interval, mean_interval
from decaylab.errors import InputError

REPETITIONS = 4000
CLAIMS = 1000
FEWEST_DIFFERENCES = 16
BEGIN, END = "<!-- simulation -->", "<!-- /simulation -->"

Sampler = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""values with mean 0 and standard deviation 1"""

MOMENTS = {
    "training loss, phase one, no decay (measured)": 3.2,
    "training loss of VGG (measured)": 2.2,
    "0.3 below 0.1 after a tiny learning rate (measured)": -1.6,
    "moderate skewness (assumed)": 0.5,
    "moderate skewness, other side (assumed)": -0.5,
    "little skewness (assumed)": 0.3,
    "none (assumed)": 0.0,
}
"""Skewness of stand-ins where no evidence with enough seeds is filed: the three largest of 21 seeds at commit bd71bb5,
and values assumed for tests whose skewness was not recorded. Their median says little; the worst ones were measured."""


@dataclass(frozen=True)
class Table:
    """A table of the page; cells are text already."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        return f"**{self.title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Standard normal values."""
    return rng.standard_normal(shape)


def skewed(skewness: float) -> Sampler:
    """A shifted gamma distribution."""
    if skewness == 0:
        return gaussian

    def sample(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        order = 4 / skewness**2
        return np.sign(skewness) * (rng.gamma(order, size=shape) - order) / np.sqrt(order)

    return sample


def jumping(share: float, height: float) -> Sampler:
    """Gaussian values of which a share lies `height` standard deviations higher, as where some seeds do not train."""

    def sample(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        values = rng.standard_normal(shape) + height * (rng.random(shape) < share) - share * height
        return values / np.sqrt(1 + share * (1 - share) * height**2)

    return sample


def resampled(values: Sequence[float]) -> Sampler:
    """The values of a test, drawn with replacement and standardised."""
    array = np.asarray(values, dtype=float)
    array = (array - array.mean()) / array.std()

    def sample(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return rng.choice(array, shape)

    return sample


def filed_differences(folder: Path) -> dict[str, list[float]]:
    """Per-seed values of the tests of filed verdicts that have at least `FEWEST_DIFFERENCES`, by claim and test.

    Raises InputError if a file is no JSON.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*/evidence/*.json")):
        try:
            verdicts = json.loads(path.read_text()).get("verdicts", {})
        except (OSError, json.JSONDecodeError, AttributeError) as error:
            raise InputError(f"{path}: expected an evidence file: {error}") from error
        for name, values in _tests(verdicts, path.stem):
            if len(values) >= FEWEST_DIFFERENCES and not set(values) <= {-1.0, 0.0, 1.0} and np.ptp(values) > 0:
                found[name] = values
    return found


def wrong_sides(
    sample: Sampler,
    repetitions: int,
    seed: int = 0,
    interval: Callable[[Sequence[float]], Interval | None] | None = None,
    looks: Sequence[int] = LOOKS,
) -> np.ndarray:
    """Share of sequences whose intervals have excluded the truth by each look, from above and from below.

    Args:
        interval: what is put around the first n values; None takes that of the looks.

    Returns:
        Shape (looks, 2): the interval once lay wholly above, or wholly below the true mean.
    """
    interval = interval or (lambda values: value_interval(values)[1])
    draws = sample(np.random.default_rng(seed), (repetitions, looks[-1]))
    missed = np.zeros((repetitions, len(looks), 2), dtype=bool)
    for row, values in enumerate(draws):
        for column, n in enumerate(looks):
            low, high = interval(values[:n]) or (-np.inf, np.inf)
            missed[row, column] = (low > 0, high < 0)
    return np.maximum.accumulate(missed, axis=1).mean(axis=0)


def decided_by(effect: float, test: Test, repetitions: int, seed: int = 0) -> list[float]:
    """Share of Gaussian tests that have an outcome by each look; `effect` in standard deviations."""
    draws = gaussian(np.random.default_rng(seed), (repetitions, LOOKS[-1])) + effect
    first = [read(values.tolist(), test).decided_at or np.inf for values in draws]
    return [float(np.mean(np.array(first) <= n)) for n in LOOKS]


def false_verdicts(sample: Sampler, test: Test, truth: float, claims: int = CLAIMS, seed: int = 0) -> float:
    """Share of claims that at any look get an outcome which is false of `truth`.

    Args:
        truth: the true effect in standard deviations.
    """
    draws = sample(np.random.default_rng(seed), (claims, LOOKS[-1])) + truth
    wrong = 0
    for values in draws:
        seen = {read(values[:n].tolist(), test).outcome for n in LOOKS}
        wrong += bool(seen - {"inconclusive"} - _true_outcomes(test, truth))
    return wrong / claims


def tables(differences: Mapping[str, Sequence[float]], repetitions: int, claims: int = CLAIMS) -> list[Table]:
    """All tables of the page."""
    if differences:
        real = {name: resampled(values) for name, values in differences.items()}
    else:
        real = {name: skewed(skewness) for name, skewness in MOMENTS.items()}
    return [
        _shape_table(repetitions),
        _interval_table(real, repetitions),
        _real_table(real, differences, repetitions),
        _decision_table(repetitions),
        _null_table(real, claims),
    ]


def write(path: Path, found: Sequence[Table], note: str) -> None:
    """Replace what stands between the markers of the page. Raises InputError if they are missing."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise InputError(f"{path}: expected the markers {BEGIN} and {END}")
    body = "\n\n".join([f"{BEGIN}\n{note}", *(table.markdown() for table in found)])
    path.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{body}\n\n{END}", text, flags=re.DOTALL))


def main(arguments: Sequence[str] | None = None, claims: int = CLAIMS) -> None:
    """The command above; `claims` is the size of the null test."""
    parser = argparse.ArgumentParser(prog="python -m decaylab.analysis.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--docs", type=Path, default=Path("docs/statistics.md"), help="page to write into")
    parser.add_argument("--evidence", type=Path, default=Path("replications"), help="where evidence is filed")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="sequences of looks for each row")
    options = parser.parse_args(arguments)
    differences = filed_differences(options.evidence)
    source = (
        f"{len(differences)} tests of filed evidence with at least {FEWEST_DIFFERENCES} seeds"
        if differences
        else "none filed yet; gamma distributions stand in, three with measured and four with assumed skewness"
    )
    note = (
        f"Made by `python -m decaylab.analysis.simulation` on {date.today():%d %B %Y}: {options.repetitions:,} "
        f"sequences of looks for each row. Real differences: {source}."
    )
    write(options.docs, tables(differences, options.repetitions, claims), note)


def _shape_table(repetitions: int) -> Table:
    shapes = {
        "Gaussian": gaussian,
        **{f"skewness {skewness:g}": skewed(skewness) for skewness in (0.5, 1, 1.6, 2.2, 3.2)},
        "5 % of seeds 4 SD higher": jumping(0.05, 4),
        "10 % of seeds 8 SD higher": jumping(0.1, 8),
    }
    rows = []
    for name, sample in shapes.items():
        found = wrong_sides(sample, repetitions)
        rows.append(
            (name, *(f"{100 * above:.1f} / {100 * below:.1f}" for above, below in found), _percent(1 - found[-1].sum()))
        )
    return Table(
        "Intervals that exclude the true mean by each look: wholly above / wholly below it, in per cent",
        ("differences", *(f"n = {n}" for n in LOOKS), "coverage over all looks"),
        tuple(rows),
    )


def _interval_table(real: Mapping[str, Sampler], repetitions: int) -> Table:
    often = tuple(range(3, LOOKS[-1] + 1))
    rules: list[tuple[str, Callable[[Sequence[float]], Interval | None], Sequence[int]]] = [
        ("Student at 95 %, after each seed from the third", lambda values: mean_interval(values)[1], often),
        ("Student at 95 %, five looks", lambda values: mean_interval(values)[1], LOOKS),
        ("Student at 98.6 %, five looks", lambda values: mean_interval(values, LOOK_CONFIDENCE)[1], LOOKS),
        ("stretched on the skewed side, 98.6 %, five looks (used)", lambda values: value_interval(values)[1], LOOKS),
    ]
    rows = []
    for name, interval, looks in rules:
        normal = wrong_sides(gaussian, repetitions, interval=interval, looks=looks)[-1]
        worse = [
            wrong_sides(sample, max(repetitions // 4, 50), interval=interval, looks=looks)[-1].max()
            for sample in real.values()
        ]
        rows.append((name, _percent(normal.max()), _percent(np.median(worse)), _percent(max(worse))))
    return Table(
        "Which interval: share of sequences that exclude the truth on the worse side",
        ("rule", "Gaussian", "real differences, median test", "worst test"),
        tuple(rows),
    )


def _real_table(
    real: Mapping[str, Sampler], differences: Mapping[str, Sequence[float]], repetitions: int, shown: int = 10
) -> Table:
    found = {name: wrong_sides(sample, repetitions).max(axis=1) for name, sample in real.items()}
    skewness = {name: _skewness(values) for name, values in differences.items()} or MOMENTS
    worst = sorted(found, key=lambda name: -found[name][-1])
    rows = [(name, f"{skewness[name]:.1f}", *map(_percent, found[name])) for name in worst[:shown]]
    rows.append((f"median of {len(found)} tests", "", *map(_percent, np.median(list(found.values()), axis=0))))
    return Table(
        "Real differences: share of sequences that exclude the truth on the worse side, the worst tests first",
        ("test", "skewness", *(f"n = {n}" for n in LOOKS)),
        tuple(rows),
    )


def _decision_table(repetitions: int) -> Table:
    cases = [
        (f"effect {effect:g} SD beyond the boundary", effect, Test("above", 0.0)) for effect in (0.5, 1, 1.5, 2, 3, 4)
    ] + [(f"sameness within {width:g} SD, true difference 0", 0.0, Test("within", width)) for width in (0.5, 1, 1.5, 2)]
    rows = []
    for name, effect, test in cases:
        shares = decided_by(effect, test, repetitions)
        median = next(
            (str(n) for n, share in zip(LOOKS, shares, strict=True) if share >= 0.5), f"more than {LOOKS[-1]}"
        )
        rows.append((name, *map(_percent, shares), median))
    return Table(
        "Seeds to a decision, Gaussian differences: share of tests decided by each look",
        ("truth", *(f"n = {n}" for n in LOOKS), "median look"),
        tuple(rows),
    )


def _null_table(real: Mapping[str, Sampler], claims: int) -> Table:
    def all_real(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        samplers = list(real.values())
        return np.concatenate([samplers[row % len(samplers)](rng, (1, shape[1])) for row in range(shape[0])])

    cases = [
        ("above, no effect", Test("above", 0.25), 0.0),
        ("below, no effect", Test("below", 0.25), 0.0),
        ("above, no effect, smallest effect 0", Test("above", 0.0), 0.0),
        ("above, effect just the smallest", Test("above", 0.25), 0.25),
        ("within, no effect", Test("within", 0.5), 0.0),
        ("within, difference just the limit", Test("within", 0.5), 0.5),
    ]
    rows = [
        (name, *(_percent(false_verdicts(sample, test, truth, claims)) for sample in (gaussian, all_real)))
        for name, test, truth in cases
    ]
    return Table(
        f"Null test: share of {claims:,} claims with a false verdict at any look",
        ("claim (smallest effect 0.25 SD, sameness 0.5 SD)", "Gaussian", "real differences"),
        tuple(rows),
    )


def _true_outcomes(test: Test, truth: float) -> set[str]:
    """Outcomes that are not false of a true effect; on a boundary none is true."""
    effect = test.smallest_effect
    inside, outside = abs(truth) < effect, abs(truth) > effect
    if test.direction == "within":
        return {"reproduced"} if inside else {"contradicted"} if outside else set()
    towards = -truth if test.direction == "below" else truth
    outcomes = {"reproduced"} if towards > effect else {"contradicted"} if towards < 0 else set()
    return outcomes | ({"negligible"} if inside else set())


def _tests(value: Any, name: str) -> Iterator[tuple[str, list[float]]]:
    """Every list of per-seed values inside a verdict, with the path of ids that leads there."""
    if isinstance(value, dict):
        part = next((str(value[key]) for key in ("claim", "label", "name") if value.get(key)), "")
        path = f"{name}: {part}" if part else name
        seeds = value.get("seeds")
        if isinstance(seeds, list) and seeds and all(isinstance(seed, dict) and "value" in seed for seed in seeds):
            yield path, [float(seed["value"]) for seed in seeds if seed["value"] is not None]
        for key, inner in value.items():
            if key != "seeds":
                yield from _tests(inner, path)
    elif isinstance(value, list):
        for inner in value:
            yield from _tests(inner, name)


def _skewness(values: Sequence[float]) -> float:
    from scipy import stats

    return float(stats.skew(values))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
