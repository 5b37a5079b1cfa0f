"""The colours of figures and pages, each for light and for dark mode.

Figures are drawn with the light value; `html.show` turns it into a CSS variable, so that one drawing is
legible in both modes. Decay is grey where there is none, then one hue that deepens with the coefficient;
other variables take the Okabe-Ito colours. Both survive the common forms of colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# name: (light, dark)
COLOURS: dict[str, tuple[str, str]] = {
    "ink": ("#1c2128", "#e6eaf0"),
    "muted": ("#59626e", "#9da7b3"),
    "line": ("#d9dee5", "#39424e"),
    "paper": ("#fbfbf9", "#11151a"),
    "card": ("#fefefe", "#191f26"),
    "tint": ("#f0f2f4", "#222a33"),
    "link": ("#0b5cad", "#79b8ff"),
    "none": ("#5f6670", "#a39d92"),
    "decay1": ("#9bc4e6", "#2f5f8f"),
    "decay2": ("#6ca6d9", "#3a78b5"),
    "decay3": ("#3f86c6", "#4791dc"),
    "decay4": ("#2167ae", "#5ea9f2"),
    "decay5": ("#124a8a", "#86c1ff"),
    "decay6": ("#0a2f61", "#b4dbff"),
    "other1": ("#c5520b", "#f28e4e"),
    "other2": ("#00795a", "#3fc39b"),
    "other3": ("#a8497f", "#e395bf"),
    "other4": ("#0068a8", "#5cb3e6"),
    "other5": ("#a97800", "#e6b93f"),
    "other6": ("#4c4ea1", "#9b9ee8"),
    "reproduced": ("#00577f", "#5cc8f5"),
    "contradicted": ("#c2410c", "#ff9454"),
    "negligible": ("#8a4fd0", "#9b7bff"),
    "inconclusive": ("#6b7280", "#9aa0a8"),
    "not_testable_here": ("#59626e", "#9da7b3"),
    "not_run": ("#6a737f", "#8d97a3"),
    "good": ("#e2f0f6", "#12303d"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
_DECAY = [f"decay{rank}" for rank in range(1, 7)]
_OTHER = [*(f"other{rank}" for rank in range(1, 7)), "none", "decay2"]
NO_DECAY = ("none", "off", "no decay", "no", "0")


def is_none(level: Any) -> bool:
    """True for a decay level that means no decay: 0, false, or a label such as `none`."""
    if isinstance(level, str):
        return level.lower().replace("_", " ") in NO_DECAY
    return not level


def palette(levels: Iterable[Any], variable: str = "weight_decay") -> dict[Any, str]:
    """Colour of each level of a variable, the same wherever the same levels are passed.

    Levels of a variable with `decay` in its name take the decay scale: grey for none, then one rising hue.
    """
    levels = list(dict.fromkeys(levels))
    if "decay" not in variable:
        return {level: LIGHT[_OTHER[index % len(_OTHER)]] for index, level in enumerate(levels)}
    active = [level for level in levels if not is_none(level)]
    if all(isinstance(level, int | float) for level in active):
        active = sorted(active)
    chosen = {level: LIGHT["none"] for level in levels if is_none(level)}
    # few levels are spread over the scale, but never as pale as its first step
    ranks = np.linspace(1 if len(active) <= 5 else 0, 5, len(active)) if len(active) > 1 else [3] * len(active)
    chosen |= {level: LIGHT[_DECAY[round(rank)]] for level, rank in zip(active, ranks, strict=True)}
    return {level: chosen[level] for level in levels}


def verdict_colour(verdict: str) -> str:
    return LIGHT[verdict.replace(" ", "_")]


def ordered(levels: Sequence[Any]) -> list[Any]:
    """Unique levels: no decay first, numbers rising, labels in the order in which they come."""
    unique = list(dict.fromkeys(levels))
    if all(isinstance(level, int | float | np.number) for level in unique):
        return sorted(unique)
    return sorted(unique, key=lambda level: not is_none(level) if isinstance(level, str) else level == 0)


def css(names: Iterable[str] = COLOURS) -> str:
    """The colours as CSS variables, dark ones where the reader's system asks for them."""
    light, dark = (
        "".join(f"--{name.replace('_', '-')}:{COLOURS[name][side]};" for name in dict.fromkeys(names))
        for side in (0, 1)
    )
    return f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
