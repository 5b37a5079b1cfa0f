"""One replication as a notebook sees it: runs and curves as tables, claims with verdicts, figures to show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from decaylab.analysis.metrics import chance_level
from decaylab.analysis.results import Results, load_runs
from decaylab.analysis.verdict import VerdictFile
from decaylab.replication import (
    Replication,
    ScaleOverride,
    claim_lines,
    expand_here,
    grids_at,
    load_replication,
    replication_file,
)
from decaylab.report.claims import claim_views, read_evidence
from decaylab.report.html import Html, duration, number, words
from decaylab.report.output import Figure, show
from decaylab.spec import RunSpec
from decaylab.workspace import Scale, Workspace
from decaylab.yaml_files import line_of

if TYPE_CHECKING:
    from decaylab.report.figures import Chart

# columns that every run has where no axis of that name says something else
SPEC_COLUMNS = {
    "learning_rate": lambda spec: spec.optimizer.learning_rate,
    "peak_learning_rate": lambda spec: spec.optimizer.learning_rate,
    "weight_decay": lambda spec: spec.decay.weight_decay,
    "decay_coefficient": lambda spec: spec.decay.weight_decay,
    "decay_form": lambda spec: spec.decay.form,
    "schedule": lambda spec: spec.schedule.kind,
    "precision": lambda spec: spec.precision,
    "model": lambda spec: spec.model.kind,
    "steps": lambda spec: spec.steps,
    "batch_size": lambda spec: spec.batch_size,
    "seed": lambda spec: spec.seed,
    "epochs": lambda spec: _epochs(spec),
    "tokens": lambda spec: spec.steps * spec.batch_size * getattr(spec.model, "context_length", 0) or None,
}


def _epochs(spec: RunSpec) -> float | None:
    """How often a run sees its training set, where the spec says how large that is."""
    examples = getattr(spec.data, "train_examples", None)
    return spec.steps * spec.batch_size / examples if examples else None


@dataclass(frozen=True)
class Report:
    """One replication at one scale. Everything is read from disk when first asked for; nothing is computed anew."""

    replication: Replication
    workspace: Workspace
    results: Results
    _named: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.replication.name

    @property
    def scale(self) -> Scale:
        return self.workspace.scale

    def show(self, chart: Chart | None, caption: str) -> Figure | Html:
        """A figure with its caption, the experiment behind it and its data as a CSV file beside the report."""
        return show(self, chart, caption)

    def figure_name(self, kind: str, caption: str) -> str:
        """A name of its own for each figure: its kind, numbered from the second one on. A cell may run again."""
        if (kind, caption) not in self._named:
            count = 1 + sum(known == kind for known, _ in self._named)
            self._named[kind, caption] = kind if count == 1 else f"{kind}-{count}"
        return self._named[kind, caption]

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per planned and finished run.

        Columns: its parameters and those of SPEC_COLUMNS, network (the label of its grid), run_id, seconds,
        predicted_seconds (NaN if none was made), flops, weights, diverged (0 or 1), diverged_at_step, every final
        metric, and `text.<name>` for each text.
        Losses and errors of a diverged run count at chance level, as in verdicts; `generalisation_gap` is
        validation loss minus train loss, in nats.
        """
        frame = self.results.arms
        if frame.empty:
            return pd.DataFrame(columns=["run_id", "grid", *SPEC_COLUMNS])
        runs = [self.results.runs[run_id] for run_id in frame["run_id"]]
        specs = {spec.run_id: spec for spec, _ in self.results.planned}
        columns: dict[str, list[Any]] = {
            name: [read(specs[run_id]) for run_id in frame["run_id"]] for name, read in SPEC_COLUMNS.items()
        }
        for name in set(columns) & set(frame):
            own = pd.Series(columns[name], index=frame.index)
            columns[name] = frame[name].where(frame[name].notna(), own).infer_objects()
        for name in ("predicted_seconds", "flops"):
            columns[name] = [run.summary.get(name) for run in runs]
        columns["weights"] = [run.summary.get("parameters") for run in runs]
        columns["diverged"] = [int(run.diverged_at_step is not None) for run in runs]
        for name in sorted({key for run in runs for key in run.summary.get("texts") or {}}):
            columns[f"text.{name}"] = [(run.summary.get("texts") or {}).get(name) for run in runs]
        # what a reader calls a grid: its name is the same at every scale, whatever network it has there
        frame = frame.assign(**columns, network=frame["grid"].map(self.grids))
        for name in frame.columns:
            levels = [chance_level(run, name) if run.diverged_at_step is not None else None for run in runs]
            if any(level is not None for level in levels):
                at_chance = pd.Series(levels, index=frame.index, dtype=float)
                frame[name] = at_chance.where(at_chance.notna(), frame[name])
        if {"validation_loss", "train_loss"} <= set(frame):
            frame["generalisation_gap"] = frame["validation_loss"] - frame["train_loss"]
        frame["predicted_seconds"] = pd.to_numeric(frame["predicted_seconds"])
        return frame

    def select(self, **where: Any) -> pd.DataFrame:
        """Rows of `runs` with these parameters; a list stands for any of its values, an unknown parameter for none."""
        frame = self.runs
        for name, wanted in where.items():
            if name not in frame:
                return frame.iloc[:0]
            frame = frame[frame[name].isin(wanted if isinstance(wanted, list) else [wanted])]
        return frame

    def curves(self, *metrics: str, **where: Any) -> pd.DataFrame:
        """Metrics over steps of the selected runs, long: parameters, run_id, step, fraction, metric, value.

        `fraction` is step / steps of the run. Metrics that a run did not record are absent; metrics keep their order.
        """
        chosen = self.select(**where)
        keep = self._parameters - {"step", "fraction", "metric", "value"}
        chosen = chosen[[name for name in chosen if name in keep]].infer_objects()
        runs = [self.results.runs[run_id] for run_id in chosen["run_id"].unique()]
        frames = [
            run.metrics.reindex(columns=["step", *metrics]).assign(
                run_id=run.run_id, fraction=run.metrics["step"] / run.steps
            )
            for run in runs
            if not run.metrics.columns.intersection(metrics).empty
        ]
        if not frames:
            return pd.DataFrame(columns=[*chosen.columns, "step", "fraction", "metric", "value"])
        long = pd.concat(frames).melt(["run_id", "step", "fraction"], var_name="metric").dropna(subset="value")
        # a run that two grids want has a row for each
        return long.merge(chosen, on="run_id")

    @cached_property
    def _parameters(self) -> set[str]:
        return {
            "run_id",
            "network",
            *SPEC_COLUMNS,
            *(name for _, parameters in self.results.planned for name in parameters),
        }

    def columns(self, prefix: str) -> list[str]:
        """Metric columns of any run that begin with `prefix`, sorted."""
        names = {name for run in self.results.runs.values() for name in run.metrics if name.startswith(prefix)}
        return sorted(names)

    def summary(self, by: list[str], *metrics: str, **where: Any) -> pd.DataFrame:
        """One row an arm: `by`, seeds, diverged, and each metric as mean and standard deviation over seeds."""
        frame = self.select(**where)
        if frame.empty or not {*by, *metrics} <= set(frame):
            return pd.DataFrame()
        rows = []
        for key, arm in frame.groupby(by, sort=False, dropna=False):
            row = dict(zip(by, key, strict=True)) | {"seeds": len(arm), "diverged": int(arm["diverged"].sum())}
            for name in metrics:
                spread = f"\u00a0\u00b1\u00a0{number(arm[name].std(), 2)}" if len(arm) > 1 else ""
                row[name] = f"{number(arm[name].mean(), 5)}{spread}"
            rows.append(row)
        return pd.DataFrame(rows)

    def drop(self, **where: Any) -> int | None:
        """The step at which the learning rate of these runs first drops, if it is one and the same."""
        steps = {spec.schedule.drops[0].step for spec in self._specs(where) if spec.schedule.drops}
        return steps.pop() if len(steps) == 1 else None

    def chance_level(self, kind: str = "error", **where: Any) -> float | None:
        """Chance level of the loss (nats) or error (fraction) of these runs, if it is one and the same."""
        values = {self.results.runs[run_id].summary["chance"][kind] for run_id in self.select(**where)["run_id"]}
        return values.pop() if len(values) == 1 else None

    def _specs(self, where: Mapping[str, Any]) -> list[RunSpec]:
        wanted = set(self.select(**where)["run_id"])
        return [spec for spec, _ in self.results.planned if spec.run_id in wanted]

    @property
    def grids(self) -> dict[str, str]:
        """Grids at this scale and what a reader calls them."""
        return {name: grid.label for name, grid in grids_at(self.replication, self.scale).items()}

    def effect(self, claim: str) -> float:
        """Smallest interesting effect of a claim's first test, in the claim's unit."""
        return next(item.tests[0].smallest_effect for item in self.replication.claims if item.id == claim)

    @cached_property
    def arms(self) -> pd.DataFrame:
        """What was planned and what has run, one row a grid: label, axes, planned, finished, diverged, time."""
        rows = []
        for name, grid in grids_at(self.replication, self.scale).items():
            planned = [(spec, parameters) for spec, parameters in self.results.planned if parameters["grid"] == name]
            ids = {spec.run_id for spec, _ in planned}
            runs = [self.results.runs[run_id] for run_id in ids if run_id in self.results.runs]
            axes = []
            for axis, values in grid.axes.items():
                used = {parameters[axis] for _, parameters in planned}  # `only` may leave out a value altogether
                axes.append(f"{words(axis)}: {', '.join(words(value) for value in values if value in used)}")
            if grid.start:
                at = ", ".join(str(value) for value in grid.start.at)
                axes.insert(0, f"continued from {grid.start.grid} at {at} of its steps")
            if grid.follow:
                axes.insert(0, f"following {grid.follow.grid}")
            rows.append(
                {
                    "runs of": f"{grid.label} ({name})",
                    "varied": "; ".join(axes) or "nothing",
                    "planned": len(ids),
                    "finished": len(runs),
                    "diverged": sum(run.diverged_at_step is not None for run in runs),
                    "time": duration(sum(run.summary["seconds"] for run in runs) if runs else None),
                }
            )
        return pd.DataFrame(rows)

    def grids_of(self, run_ids: Iterable[str]) -> list[str]:
        """Grids at this scale that have any of these runs."""
        wanted = set(run_ids)
        found = {parameters["grid"] for spec, parameters in self.results.planned if spec.run_id in wanted}
        return [name for name in self.grids if name in found]

    @cached_property
    def grid_lines(self) -> dict[str, int]:
        """Line of each grid in replication.yaml: of what this scale changes, if it changes it, else of the source's."""
        path = replication_file(self.workspace.root, self.name)
        override = self.replication.scales.get(self.scale, ScaleOverride())
        here = dict.fromkeys(override.grids, "grids") | dict.fromkeys(override.add, "add")
        return {
            name: line_of(path, ("scales", self.scale, here[name], name) if name in here else ("grids", name))
            for name in self.grids
        }

    @cached_property
    def claim_lines(self) -> dict[str, int]:
        """Line of each claim in replication.yaml."""
        return claim_lines(replication_file(self.workspace.root, self.name))

    @property
    def yaml_page(self) -> str:
        """The page that shows replication.yaml with line numbers, from a page of this scale."""
        return f"yaml/{self.name}.html"

    @property
    def note(self) -> str:
        """What this scale makes smaller, in the replication's words."""
        return self.replication.scales.get(self.scale, ScaleOverride()).note

    @cached_property
    def verdicts(self) -> VerdictFile | None:
        """The verdict file of this replication at this scale, or None if it was not judged."""
        return VerdictFile.read(self.workspace.layout.verdicts(self.scale, self.name))

    @cached_property
    def evidence(self) -> list[dict[str, Any]]:
        """Archived runs of this replication, the largest scale first."""
        return read_evidence(self.workspace.root, self.name)

    @cached_property
    def claims(self) -> list[dict[str, Any]]:
        """Every claim as pages show it, in the order of replication.yaml."""
        return claim_views(self.replication, self.workspace)


def open_report(replication: str, workspace: Workspace | str = "") -> Report:
    """Everything about one replication at one scale.

    Args:
        workspace: a Workspace, or the text that `Workspace.to_json` writes; empty for this clone at laptop scale.

    Raises:
        InputError: no such replication, no workspace in the text, or broken result files.
    """
    workspace = Workspace.parse(workspace) if isinstance(workspace, str) else workspace
    rep = load_replication(replication_file(workspace.root, replication))
    planned = [(spec, parameters) for spec, parameters, _ in expand_here(rep, workspace)]
    return Report(rep, workspace, load_runs(workspace.layout, planned))
