"""One run on several GPUs: each process passes its share of every batch through the whole network.

Gradients are averaged before the update, which all processes then make alike, so the numbers are those of one process
up to rounding, and the id of the run is the same. Only the first process writes files; each evaluates and probes for
itself, since all must agree on when a run has diverged.

torch's DistributedDataParallel does not fit this loop: it averages gradients in hooks of `backward()`, whereas here
`torch.autograd.grad` puts them into one long vector, and after two steps the recorded pass is replayed without
autograd, so no hook would run. The vector is averaged in one call instead. What is lost is that DDP can send the
gradients of the last layers while those of the first are computed; `decaylab plan --gpus` counts that time in full.

Dropout is drawn from a generator that is seeded anew in each step by the run's data seed, the process and the step. So
a checkpoint holds no state of it, and the masks are not those of one process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from decaylab.data.draws import generator
from decaylab.errors import InputError, Lost
from decaylab.files import DIGESTS, Layout, read_json, sha256_file, sha256_json, write_json
from decaylab.fingerprint import fingerprint
from decaylab.locks import exclusive
from decaylab.models import BatchNorm2d
from decaylab.optim.norms import vector_norm, wide
from decaylab.spec import RunSpec
from decaylab.training.launcher import Place, note_joined
from decaylab.training.learner import Batch
from decaylab.training.loop import Loop, Options
from decaylab.training.records import finished, publish
from decaylab.training.training_run import TrainingRun

PATIENCE = timedelta(hours=24)
"""how long a process waits for another that is alive: the first may have to prepare data, or wait for a lock"""

T = TypeVar("T")


def check_shareable(specs: Sequence[RunSpec], processes: int) -> None:
    """Raise InputError for a run whose batch cannot be split evenly."""
    for spec in specs:
        if spec.batch_size % processes:
            raise InputError(f"{spec.run_id}: batch_size {spec.batch_size} cannot be split among {processes} processes")


def join(here: Place, device: str) -> Ranks:
    """Meet the other processes. Each takes the GPU of its number on this machine, unless the device is `cpu`.

    Raises:
        InputError: this machine has fewer GPUs, or the device names a certain one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu or cuda where several processes train one run, got {device!r}")
    if device != "cpu":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if here.local_size > gpus:
            cure = (
                f"expected at most {gpus} processes" if gpus else "to try several processes on a CPU, use --device cpu"
            )
            raise InputError(f"device: {here.local_size} processes train here, and torch finds {gpus} GPUs; {cure}")
        torch.cuda.set_device(here.local_rank)
    meeting = f"file://{here.store}" if here.store else "env://"
    store, rank, size = next(dist.rendezvous(meeting, here.rank, here.size, timeout=timedelta(minutes=10)))
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    note_joined(here)
    return Ranks(here.rank, here.size)


class Ranks:
    """The processes that train together, of which this is number `rank`.

    Every method is called by all of them at the same point. It raises Lost if one has ended.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.first = rank == 0
        self.passing = False
        """whether the pass of a training step is under way, which each makes with its share of one batch"""

    def any(self, asked: bool) -> bool:
        """Whether any process asks."""
        return self._compared(asked, 0, "they have come apart")

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self.any(False)

    def same(self, value: float, otherwise: str) -> None:
        """Raise InputError in the first process, Lost in the others, unless the value is the same in all of them."""
        self._compared(False, int(sha256_json(repr(value))[:15], 16), otherwise)

    def share(self, value: T) -> T:
        """The first process's value."""
        values = [value]
        with _watched():
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over the processes, in place; summed in float32 or more."""
        summed = tensor.to(wide(tensor)).div_(self.size)
        with _watched():
            dist.all_reduce(summed)
        return tensor if summed is tensor else tensor.copy_(summed)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process passes through this block before the others, which find the files that it wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def leave(self) -> None:
        """Part in peace."""
        dist.destroy_process_group()

    def _compared(self, asked: bool, value: int, otherwise: str) -> bool:
        word = torch.tensor([int(asked), value, -value])
        with _watched():
            dist.all_reduce(word, dist.ReduceOp.MAX)
        anyone, most, least = word.tolist()
        if most != -least:
            raise (InputError if self.first else Lost)(f"{self.size} processes train one run, but {otherwise}")
        return bool(anyone)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no class for it
        first = str(error).partition("\n")[0]
        raise Lost(
            f"another process of this training has ended ({first:.100}); "
            "the same command continues from the last checkpoint"
        ) from error


def train_shared(ranks: Ranks, spec: RunSpec, layout: Layout, options: Options) -> dict[str, Any]:
    """`decaylab.training.loop.train` by several processes, all of which call it.

    Raises:
        InputError: as `train`; or the processes do not see the same files, or do not compute the same numbers.
        Interrupted: `options.stop` of any process asked for it; the state is saved.
        Lost: another process has ended.
    """
    key = {"spec": sha256_json(spec.identity()), "code": fingerprint(spec)}
    with contextlib.ExitStack() as locks:
        done = None
        if ranks.first:
            locks.enter_context(exclusive(layout.state(spec.run_id) / "lock"))
            done = finished(spec, layout, key)
            if done is None:
                check_shareable([spec], ranks.size)
        done = ranks.share(done)
        if done is None:
            summaries = SharedLoop(ranks, spec, layout, options, key).run()
            done = ranks.share(summaries.get(spec.run_id))
        if ranks.first:
            publish(spec, layout)
        ranks.wait()  # a later run may start from this one
    return done


class SharedLoop(Loop):
    """Takes one run through its steps together with other processes."""

    def __init__(self, ranks: Ranks, spec: RunSpec, layout: Layout, options: Options, key: dict[str, str]) -> None:
        self.ranks = ranks
        price = ranks.share(options.price(spec) if ranks.first and options.price else None)
        stop = options.stop
        options = replace(options, price=(lambda _: price) if price else None, stop=lambda: ranks.any(stop()))
        if not ranks.first:
            # what is saved changes no number
            spec = spec.model_copy(update={"snapshots": ()})
            options.progress = lambda *_: None
        with ranks.first_alone():
            super().__init__([spec], layout, options, [key])
            [run] = self.runs
            if share_batch_norm(run.model, ranks):
                if spec.micro_batch_size:
                    raise InputError(
                        f"{spec.run_id}: with micro_batch_size, batch norm takes statistics of each micro-batch, "
                        f"which {ranks.size} processes cannot reproduce; expected one process"
                    )
                # messages between processes inside a pass are neither recorded nor compiled
                self.options, self.loss = replace(options, graphs="off"), None
        run.__class__ = _SharedRun
        run.processes = ranks.size
        ranks.same(self.step, "they read different checkpoints; expected a folder of results that all of them see")

    def _draw(self) -> Batch:
        """This process's share of the batch of this step, which all draw alike."""
        inputs, targets = super()._draw()
        each = len(inputs) // self.ranks.size
        mine = slice(self.ranks.rank * each, (self.ranks.rank + 1) * each)
        return inputs[mine], targets[mine]

    def _backward(self, batch: Batch) -> Sequence[Tensor]:
        """Put the gradients of the whole batch in place; returns its loss."""
        [run] = self.runs
        if getattr(run.spec.model, "dropout", 0):
            torch.manual_seed(generator("dropout", run.data_seed, self.ranks.rank, self.step).initial_seed())
        self.ranks.passing = True
        try:
            [loss] = super()._backward(batch)
        finally:
            self.ranks.passing = False
        self.ranks.average(run.learner.flat.gradient)
        return [self.ranks.average(loss.clone())]

    def _save(self) -> None:
        if self.ranks.first:
            super()._save()

    def _interrupt(self) -> None:
        try:
            super()._interrupt()
        finally:
            self.ranks.wait()  # whoever ends first ends the others, which may still be saving

    def _finish(self) -> dict[str, dict[str, Any]]:
        norm = float(vector_norm(self.runs[0].learner.flat.weights))
        self.ranks.same(norm, "their weights differ at its end; expected GPUs of one kind")
        return super()._finish() if self.ranks.first else {}


class _SharedRun(TrainingRun):
    """A run whose summary says how many processes trained it."""

    processes: int

    def finish(self, seconds: float, together: int) -> dict[str, Any]:
        summary = super().finish(seconds, together)
        summary["hardware"]["processes"] = self.processes
        folder = self.layout.state(self.spec.run_id)
        write_json(folder / "summary.json", summary)
        digests = read_json(folder / DIGESTS)
        write_json(folder / DIGESTS, digests | {"summary.json": sha256_file(folder / "summary.json")})
        return summary


def share_batch_norm(model: nn.Module, ranks: Ranks) -> bool:
    """Let batch norm normalise by the statistics of the whole batch in training steps; False if there is none.

    torch's SyncBatchNorm does the same on GPUs, and refuses a CPU, where this can be tested.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        if type(norm) is not BatchNorm2d:
            raise InputError(f"model: {type(norm).__name__} cannot be trained by several processes")
        norm.__class__ = _SharedBatchNorm
        norm.ranks = ranks
    return bool(norms)


class _SharedBatchNorm(BatchNorm2d):
    ranks: Ranks

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.ranks.passing):
            return super().forward(x)
        values = x.to(wide(x))
        mean = _Mean.apply(values.mean((0, 2, 3)), self.ranks)
        centred = values - mean[:, None, None]
        variance = _Mean.apply(centred.square().mean((0, 2, 3)), self.ranks)
        result = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            result = result * self.weight[:, None, None] + self.bias[:, None, None]
        with torch.no_grad():
            count = self.ranks.size * x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        return result.to(x.dtype)


class _Mean(torch.autograd.Function):
    """Mean over the processes of tensors whose losses are averaged over them, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.average(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.average(gradient.clone()), None
