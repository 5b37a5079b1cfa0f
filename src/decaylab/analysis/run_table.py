"""Many finished runs in one parquet table, as packs and records of the archive store them.

One row for each recorded step of each run: `run_id`, `step`, the metrics, and on a run's last row its summary.json.
Nothing is rounded. Metrics are float64, with their bytes split into streams: most come from float32, so half of their
bytes are zero and compress to nothing. Hundreds of runs take a tenth of the space of their own files.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Container, Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from decaylab.analysis.results import RunResult
from decaylab.errors import InputError
from decaylab.files import Layout
from decaylab.limits import check_table

KEYS = ("run_id", "step", "summary")
LEVEL = 12
"""zstd level: a tenth smaller than the default, and one second for hundreds of runs"""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def to_table(runs: Iterable[RunResult]) -> pd.DataFrame:
    """The runs one after another in one frame. Raises InputError if a run's metrics cannot be read."""
    frames = []
    for run in runs:
        # an empty column carries no information and would not survive a restoration
        frame = run.metrics.astype(float).dropna(axis="columns", how="all")
        summary = pd.Series(None, index=frame.index, dtype=object)
        summary.iloc[-1] = json.dumps(run.summary, ensure_ascii=False)
        frames.append(pd.concat([frame, summary.rename("summary")], axis="columns").assign(run_id=run.run_id))
    # metrics in order of first appearance; null where a run lacks one
    names = dict.fromkeys(name for frame in frames for name in frame if name not in KEYS)
    return pd.concat(frames, ignore_index=True)[[*KEYS, *names]].astype({"step": np.int64})


def thin(table: pd.DataFrame, every: int, whole: Container[str]) -> pd.DataFrame:
    """Keep every `every`-th value of each metric of each run, counted from the last, and all of those in `whole`."""
    thinned = table.copy()
    for name in table:
        if name not in KEYS and name not in whole:
            known = table[name].notna()
            # number of values that follow in this run
            left = known[::-1].groupby(table["run_id"][::-1], sort=False).cumsum()[::-1] - 1
            thinned[name] = table[name].where(known & (left % every == 0))
    metrics = [name for name in thinned if name not in KEYS]
    last = ~thinned["run_id"].duplicated(keep="last")
    return thinned[last | thinned[metrics].notna().any(axis=1)]


def write_table(table: pd.DataFrame) -> bytes:
    """The table as the bytes of a parquet file."""
    content = io.BytesIO()
    metrics = [name for name in table if name not in KEYS]
    parquet.write_table(
        pa.Table.from_pandas(table, preserve_index=False),
        content,
        compression="zstd",
        compression_level=LEVEL,
        use_dictionary=["run_id"],
        write_statistics=False,
        use_byte_stream_split=metrics,
    )
    return content.getvalue()


def restore_table(content: bytes, layout: Layout, where: str) -> list[str]:
    """Write summary.json and metrics.parquet of each run in a table; returns the ids, which are safe as file names.

    The content of the summaries is not checked here, but by `load_run`.

    Raises:
        InputError: no such table, or a run without exactly one summary; the line starts with `where`.
    """
    try:
        check_table(parquet.read_metadata(io.BytesIO(content)), len(content))
        table = pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InputError(f"{where}: cannot be read as parquet ({str(error).splitlines()[0]})") from None
    if not set(KEYS) <= set(table) or table["step"].isna().any():
        raise InputError(f"{where}: expected columns {', '.join(KEYS)}, and a step in each row")
    for name in table:
        if name not in ("run_id", "summary") and not pd.api.types.is_numeric_dtype(table[name]):
            raise InputError(f"{where}: {name}: expected a column of numbers")
    run_ids = []
    for run_id, rows in table.groupby("run_id", sort=False, dropna=False):
        if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
            raise InputError(f"{where}: run_id: expected the id of a run, got {run_id!r}")
        summaries = rows["summary"].dropna()
        if len(summaries) != 1:
            raise InputError(f"{where}: run {run_id}: expected one summary, got {len(summaries)}")
        layout.run(run_id).mkdir(parents=True, exist_ok=True)
        layout.summary(run_id).write_text(str(summaries.iloc[0]), encoding="utf-8")
        metrics = rows.drop(columns=["run_id", "summary"]).dropna(axis="columns", how="all")
        metrics.astype({"step": np.int64}).to_parquet(layout.metrics(run_id), index=False)
        run_ids.append(run_id)
    return run_ids
