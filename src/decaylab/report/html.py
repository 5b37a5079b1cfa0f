"""Small pieces of HTML shared by notebooks and site: numbers, tables, claims.

Everything is inline: a page needs no network, no script library and no second file.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from decaylab.analysis.verdict import VERDICTS
from decaylab.regime import LABELS
from decaylab.report import colours

TEMPLATES = Path(__file__).parent / "templates"
DASH = "\u2013"


class Html(str):
    """Text that a notebook displays as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


# --- numbers ---------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits and a real minus sign; an en dash for None and NaN."""
    if value is None or not isinstance(value, int | float) or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "\u2212∞"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) < 10**6:
        return f"{value}".replace("-", "\u2212")
    text = f"{value:.{digits}g}"
    if "e" not in text and "." not in text and len(text.lstrip("-")) > digits:
        text = f"{value:.0f}"
    mantissa, _, exponent = text.partition("e")
    if exponent and -5 < int(exponent) < 7:
        mantissa, exponent = f"{value:.{max(0, digits - 1 - int(exponent))}f}", ""
    return (mantissa + (f"e{int(exponent)}" if exponent else "")).replace("-", "\u2212")


def _decimals(interval: Sequence[float] | None, value: float) -> int:
    """Decimals that leave two significant digits of the interval's half-width (three of the value without one)."""
    size = abs(interval[1] - interval[0]) / 2 if interval and None not in interval else 0
    if size == 0:
        return 3 if value == 0 else max(0, min(6, 2 - math.floor(math.log10(abs(value)))))
    return max(0, min(6, 1 - math.floor(math.log10(size))))


def estimate(value: float | None, interval: Sequence[float] | None = None) -> str:
    """`-0.042 [-0.061, -0.023]`, rounded to what the interval supports, with real minus signs."""
    if value is None:
        return DASH
    places = _decimals(interval, value)
    text = f"{value:.{places}f}"
    if interval and None not in interval:
        text += f" [{interval[0]:.{places}f}, {interval[1]:.{places}f}]"
    return re.sub(r"-0(\.0*)?(?=[,\] ]|$)", lambda match: match[0][1:], text).replace("-", "\u2212")


def measured(value: float | None, interval: Sequence[float] | None, unit: str) -> str:
    """An estimate with its interval as people say it: fractions in percentage points, else the unit in brackets."""
    if value is None:
        return DASH
    words_in_brackets = re.findall(r"\(([a-z][a-z ]*)\)", unit)  # other brackets have numbers
    word = words_in_brackets[-1] if words_in_brackets else ""
    if is_fraction(unit):
        value, word = 100 * value, "points"
        interval = [None if end is None else 100 * end for end in interval] if interval else None
    text = estimate(value, interval) if interval else number(value)
    head, space, ends = text.partition(" ")
    return f"{head}{' ' if word else ''}{word}{space}{ends}"


def is_fraction(unit: str) -> bool:
    """True for units whose values are shown in percent, and their differences in points."""
    return "(fraction)" in unit or unit.startswith("share")


def aligned(values: Sequence[float | None], size: float, sign: str = "") -> list[str]:
    """Numbers with as many decimals as leave four digits of `size`, and an en dash for None."""
    places = max(0, min(6, 3 - math.floor(math.log10(size)))) if size else 2
    texts = (DASH if value is None else f"{value:.{places}f}{sign}" for value in values)
    return [text.replace("-", "\u2212") for text in texts]


def duration(seconds: float | None) -> str:
    """`42 s`, `3.5 min`, `2.1 h`."""
    if seconds is None or (isinstance(seconds, float) and math.isnan(seconds)):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f}\u00a0s"
    if seconds < 100:
        return f"{seconds:.0f}\u00a0s"
    if seconds < 6000:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f}\u00a0min"
    return f"{seconds / 3600:.1f}\u00a0h"


def size(count: float | None, unit: str = "B") -> str:
    """`1.2 MB`, `3.4 GFLOP`: decimal prefixes."""
    if count is None or (isinstance(count, float) and math.isnan(count)):
        return DASH
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z"]
    rank = min(len(prefixes) - 1, int(math.log10(count) // 3)) if count >= 1 else 0
    return f"{count / 1000**rank:.3g} {prefixes[rank]}{unit}"


def scalar(value: Any) -> str:
    """A cell of a table."""
    if value is None or value is pd.NA:
        return DASH
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value, 4)
    if isinstance(value, list | tuple):
        return ", ".join(scalar(item) for item in value) or DASH
    return str(value)


def words(name: Any) -> str:
    """`weight_decay` -> `weight decay`."""
    return str(name).replace("_", " ")


def precondition_metric(name: str) -> str:
    """`regime.decay_exponent` -> the product in words, with signs; else the words of the metric."""
    kind, _, rest = name.partition(".")
    return LABELS[rest].replace(" x ", " \u00d7 ") if kind == "regime" and rest in LABELS else words(name)


def scale_text(scale: str) -> str:
    """A scale, and whether it is smaller than what the source did."""
    return f"{scale} (the source's own settings)" if scale == "paper" else f"{scale} (smaller than the source's)"


# --- templates -------------------------------------------------------------------------------------------------------


@cache
def environment() -> jinja2.Environment:
    """Jinja2 with our filters, escaping on; undefined names are errors."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "number": number,
        "estimate": estimate,
        "measured": measured,
        "duration": duration,
        "size": size,
        "scalar": scalar,
        "words": words,
        "scale_text": scale_text,
        "metric": precondition_metric,
    }
    env.globals["verdicts"] = VERDICTS
    env.globals["style"] = style
    env.globals["run_style"] = run_style
    return env


@cache
def style(*parts: str) -> Markup:
    """The style sheet of a page, to be inlined: what all pages share, and further files such as `claims`."""
    files = [TEMPLATES / f"{part}.css" for part in ("style", *parts)]
    return Markup(colours.css() + "".join(file.read_text(encoding="utf-8") for file in files))


@cache
def run_style() -> Markup:
    """The style sheet of a run's page: of those there are many, so it has only what they use."""
    text = (TEMPLATES / "run.css").read_text(encoding="utf-8")
    return Markup(colours.css(re.findall(r"var\(--(\w+)\)", text)) + text)


# --- tables ----------------------------------------------------------------------------------------------------------


def note(text: str) -> Html:
    """A line in a box, for what is missing."""
    return Html(f'<p class="note">{escape(text)}</p>')


def link(text: str, target: str) -> Html:
    """A link; both are escaped."""
    return Html(f'<a href="{escape(target)}">{escape(text)}</a>')


def relative(path: Path, folder: Path) -> str:
    """`path` as a link from a page in `folder`."""
    return Path(os.path.relpath(Path(path).resolve(), Path(folder).resolve())).as_posix()


def join(parts: Iterable[str]) -> Html:
    """Several pieces, one below the other."""
    return Html("\n".join(parts))


def table(frame: pd.DataFrame, caption: str, left: Iterable[str] = ()) -> Html:
    """A data frame as a table with a caption; numbers right-aligned, columns in `left` never so."""
    if frame.empty:
        return note(f"Nothing to list at this scale: {caption}")
    left = set(left)
    numeric = {
        name: name not in left and pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool
        for name in frame.columns
    }
    head = "".join(f'<th scope="col"{_right(numeric[name])}>{escape(words(name))}</th>' for name in frame.columns)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{_right(numeric[name])}>{value if isinstance(value, Html) else escape(scalar(value))}</td>"
            for name, value in zip(frame.columns, row, strict=True)
        )
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return Html(
        f'<div class="scroll" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def claims_table(claims: Sequence[Mapping[str, Any]]) -> Html:
    """The claims of one replication with their verdicts, as `load.claim_views` gives them."""
    return Html(environment().get_template("claims.html.j2").render(claims=claims))
