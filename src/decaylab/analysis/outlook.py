"""What more seeds would bring to an undecided test, in seeds, minutes and words."""

from __future__ import annotations

from collections.abc import Sequence

from decaylab.analysis import power
from decaylab.analysis.looks import FEWEST_SEEDS, Design, Reading, Test
from decaylab.analysis.verdict import Outlook

MORE = (10, 16, 24, 32, 48, 64, 100)
"""numbers of seeds considered where a scale has a fixed number"""
MOST_COUNTED = 32
"""of them for 0/1 values, whose further counts are enumerated"""


def outlook(
    values: Sequence[float], test: Test, reading: Reading, design: Design, seconds_per_seed: float, sequential: bool
) -> Outlook:
    """The outlook of a test that is undecided.

    Args:
        values: those behind `reading`.
        seconds_per_seed: training time of all runs that one seed needs.
        sequential: whether the scale adds seeds at looks; else it would be judged once with more seeds.
    """

    def more(seeds: int, text: str) -> Outlook:
        minutes = seeds * seconds_per_seed / 60
        return Outlook(seeds=seeds, minutes=minutes, text=text.format(_more_seeds(seeds, minutes)))

    n = len(values)
    if not reading.looks:
        return more(design.looks[0] - n, "it is first judged after {}")
    if n < FEWEST_SEEDS and test.kind != "proportion":
        return more(
            FEWEST_SEEDS - n, f"{n} seed{'s' if n != 1 else ''} cannot decide a mean, which takes at least {{}}"
        )
    if not sequential:
        most = MORE[-1] if test.kind == "continuous" else MOST_COUNTED
        design = Design((n, *(seeds for seeds in MORE if n < seeds <= most)), design.confidence)
    forecast = power.forecast(values, test, reading, design)
    if not forecast.can_help:
        return Outlook(text=forecast.reason)
    if forecast.enough:
        return more(forecast.enough - n, "{} would probably decide it")
    likely = {look: chance.decided for look, chance in forecast.chances.items()}
    if not likely:
        return Outlook(text="the effect is about as large as the smallest one that matters")
    look = max(likely, key=likely.__getitem__)
    if likely[look] < power.HOPELESS:
        return Outlook(text="the effect is about as large as the smallest one that matters, or the noise too large")
    return more(look - n, f"{{}} would decide it with a probability of {likely[look]:.0%}")


def _more_seeds(seeds: int, minutes: float) -> str:
    shown = f"{minutes:.0f} minutes" if minutes >= 9.5 else f"{minutes:.1f} minutes"
    return f"{seeds} more seed{'s' if seeds != 1 else ''} (about {shown})"
