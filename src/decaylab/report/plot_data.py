"""What an SVG tells the script of its page, templates/curves.js: where its panels lie, their axes, and its arms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape


def attributes_of(panels: Sequence[dict[str, object]], arms: Sequence[str]) -> str:
    """Panels and arms as attributes of an SVG."""
    text = json.dumps(panels, separators=(",", ":"), ensure_ascii=False)
    names = json.dumps(arms, separators=(",", ":"), ensure_ascii=False)
    return f'data-panels="{escape(text)}" data-arms="{escape(names)}" '


def panel_of(
    box: Iterable[float],
    x: tuple[float, float, bool],
    y: tuple[float, float, bool],
    label: str,
    unit: str = "",
    axis: str = "step",
) -> dict[str, object]:
    """One panel: its left, top, right and bottom end; for each axis low and high end and whether it is logarithmic."""
    return {
        "box": [round(value, 1) for value in box],
        "x": [float(f"{end:.6g}") for end in x[:2]] + [int(x[2])],
        "y": [float(f"{end:.6g}") for end in y[:2]] + [int(y[2])],
        "label": label,
        "axis": axis,
        "unit": unit,
    }
