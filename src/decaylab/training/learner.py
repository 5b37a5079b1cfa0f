"""A network in training: its weights, optimizer, decay and moving average, and what one step does to them.

Data, evaluation and files are up to the loop.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from decaylab.data.draws import generator
from decaylab.models import build_model, parameter_groups
from decaylab.optim.decay import WeightDecay
from decaylab.optim.flat import FlatParameters
from decaylab.optim.norm_control import project
from decaylab.optim.norms import vector_norm
from decaylab.optim.optimizers import build_optimizer, grouped_parameters, set_learning_rate
from decaylab.optim.rounding import StoredWeights
from decaylab.optim.schedules import learning_rate_at
from decaylab.spec import RunSpec
from decaylab.training.norms import effective_learning_rate, gradient_norms, weight_norms
from decaylab.training.parts import Parts, rounded_groups
from decaylab.training.startup import keep_memory

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}

Batch = tuple[Tensor, Tensor]
"""inputs and targets"""
FunctionalLoss = Callable[[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor], Tensor]
"""weights by name, buffers by name, inputs, targets -> loss"""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean loss in nats: logits [..., classes] and int64 targets [...] -> 0-d, in float32 or more."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(wide.flatten(0, -2), targets.flatten())


def _images_like_weights(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # asks this network, since its average is a copy with float32 weights
    return tuple(tensor.to(model.head.weight.dtype) for tensor in inputs)


class Learner:
    """Everything that a training step of one run changes.

    A step computes gradients, with `backward` or for several learners at once with `Stack.backward`, and then calls
    `update`. Nothing in it waits for the device.

    Args:
        classes: classes of the images, or tokens of the tokenizer.
    """

    def __init__(self, spec: RunSpec, classes: int, device: torch.device) -> None:
        self.spec, self.device = spec, device
        if device.type == "cpu":
            keep_memory()
        image_size = spec.data.image_size if spec.data.kind == "images" else None
        init_seed = spec.seed if spec.init_seed is None else spec.init_seed
        model = build_model(spec.model, classes=classes, image_size=image_size, seed=init_seed)
        model.to(device)
        if image_size:
            model.to(memory_format=torch.channels_last)
        if spec.precision == "bfloat16_weights" and not spec.casts_weights:
            model.to(torch.bfloat16)
            if image_size:
                model.register_forward_pre_hook(_images_like_weights)
        self.model = model
        self.flat = FlatParameters(model, parameter_groups(model))
        project(self.flat.weights, spec.norm_control, 0)
        self.optimizer = build_optimizer(spec, self.flat.groups)
        self.grouped = grouped_parameters(self.optimizer)
        self.stored: StoredWeights | None = None
        if spec.casts_weights:
            rounded = rounded_groups(spec, self.flat.groups)
            self.stored = StoredWeights(rounded, self.optimizer, spec.rounding == "stochastic")
        self.decay = WeightDecay(spec.decay, self.optimizer, spec.optimizer.learning_rate, spec.steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "float16")
        # without the profiler's marks and the compiler's guards, which cost more than the update of a small network
        bare_step = functools.partial(inspect.unwrap(type(self.optimizer).step), self.optimizer)
        self._step = functools.partial(self.scaler.step, self.optimizer) if self.scaler.is_enabled() else bare_step
        self.ema: nn.Module | None = None
        if spec.ema:
            # in float32 whatever the weights are: 0.001 of an update is far below the spacing of bfloat16
            self.ema = copy.deepcopy(model).float().eval().requires_grad_(False)
            self.average = torch.empty_like(self.flat.weights, dtype=torch.float32)
            self.flat.point(self.ema, self.average)
            self.restart_average()
        # after the average was copied, which computes in float32
        self.parts = Parts(spec, model) if spec.float32_parts or spec.rounding else None

    def restart_average(self) -> None:
        """Set the moving average to the present weights."""
        if self.ema is not None:
            self.ema.load_state_dict(self.model.state_dict())

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """The precision of this run: autocast, and weights as they are stored."""
        with self.autocast(), self.parts.computing() if self.parts else contextlib.nullcontext():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast to the precision of this run."""
        dtype = AUTOCAST.get(self.spec.precision)
        # each weight is used once in a pass, and a cached copy would not survive in a CUDA graph
        return torch.autocast(self.device.type, dtype, cache_enabled=False) if dtype else contextlib.nullcontext()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Trained weights by name."""
        return dict(zip(self.flat.names, self.flat.parameters, strict=True))

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Buffers by name: what a pass changes besides gradients."""
        return dict(self.model.named_buffers())

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that `backward` reads and writes besides its batch."""
        return [*self.flat.parameters, *self.buffers.values(), *self.flat.gradients]

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""
        if self.parts:
            with self.parts.computing():
                return cross_entropy(self.model(inputs), targets)
        return cross_entropy(self.model(inputs), targets)

    def functional_loss(self, *, wide: bool = False) -> FunctionalLoss:
        """`loss` with weights and buffers as arguments, for any network of this shape.

        Args:
            wide: use all weights as they are given, also those that the run casts to bfloat16.
        """
        parts = None if wide else self.parts

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            if parts:
                return cross_entropy(parts.call(parameters, buffers, inputs), targets)
            return cross_entropy(functional_call(self.model, (parameters, buffers), (inputs,)), targets)

        return loss

    def backward(self, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """Put the gradients of a batch in place and return its loss. `loss` may be a compiled form of `self.loss`."""
        loss = loss or self.loss
        inputs, targets = batch
        micro = self.spec.micro_batch_size or len(inputs)
        total: Tensor | None = None
        for part, part_targets in zip(inputs.split(micro), targets.split(micro), strict=True):
            with self.autocast():
                value = loss(part, part_targets)
                if len(part) < len(inputs):
                    value = value * (len(part) / len(inputs))
            gradients = torch.autograd.grad(self.scaler.scale(value), self.flat.parameters)
            self.flat.collect(gradients, add=total is not None)
            total = value.detach() if total is None else total + value.detach()
        return total

    def update(self, step: int, *, logged: bool, after: Callable[[float], None] | None = None) -> dict[str, Any]:
        """Update the weights from the gradients in place. Returns measurements if `logged`, else an empty dict.

        Args:
            step: number of the update, from 0.
            after: called with the learning rate after the optimizer's step, while gradients are still in place.
        """
        spec = self.spec
        learning_rate = learning_rate_at(spec.schedule, spec.optimizer.learning_rate, spec.steps, step)
        set_learning_rate(self.optimizer, learning_rate)
        penalty = self.decay.loss_penalty(step)
        if penalty is not None:
            self.scaler.scale(penalty).backward()
        self.scaler.unscale_(self.optimizer)

        if self.stored:
            self.stored.round_gradients()
        measured: dict[str, Any] = gradient_norms(self.grouped) if logged else {}
        if spec.gradient_clip is not None or logged or spec.precision == "float16":
            norm = vector_norm(self.flat.gradient)
            if logged:
                # the norm that clips; summed over groups it may differ in the last bit
                measured["gradient_norm"] = norm
            if spec.gradient_clip is not None:
                # the rule of torch.nn.utils.clip_grad_norm_, which takes a tenth of a small network's step
                self.flat.gradient.mul_((spec.gradient_clip / (norm + 1e-6)).clamp_(max=1))

        # if a float16 gradient overflowed, neither it nor decay is applied
        skipped = ~torch.isfinite(norm) if spec.precision == "float16" else None
        with torch.no_grad():
            self.decay.before_step(step, learning_rate, skipped)
            if self.stored:
                self.stored.after_decay()
            self._step()
            if self.stored:
                self.stored.after_step(self._rounding(step))
        project(self.flat.weights, spec.norm_control, step + 1)
        if after is not None:
            after(learning_rate)
        self.scaler.update()
        if self.ema is not None:
            self.average.lerp_(self.flat.weights.float(), 1 - spec.ema)  # no copy if they are float32
        if logged:
            measured |= weight_norms(self.grouped)
            measured |= {
                "effective_learning_rate": effective_learning_rate(
                    spec.optimizer.name, learning_rate, measured["weight_norm"]
                ),
                "learning_rate": learning_rate,
                "weight_decay": self.decay.coefficient(step, learning_rate),
            }
        return measured

    def _rounding(self, step: int) -> torch.Generator:
        # a function of seed and step, so that a resumed run draws the same numbers
        seed = generator("rounding", self.spec.seed, step).initial_seed()
        return torch.Generator(self.device).manual_seed(seed)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to continue with the same bits."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "decay": self.decay.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.decay.load_state_dict(state["decay"])
        self.scaler.load_state_dict(state["scaler"])


class Stack:
    """Learners of one shape with stacked weights, so that one pass through all launches the kernels of one.

    Each learner keeps its own optimizer, decay and measurements; its weights, gradients and buffers become rows of the
    stack. Sums are taken in another order than in a learner alone, so results are equal up to rounding.

    Args:
        learners: their specs have equal `stackable` keys.
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        self.learners = list(learners)
        first = self.first = self.learners[0]
        count = len(self.learners)
        weights = first.flat.weights.new_empty(count, len(first.flat.weights))
        gradients = torch.zeros_like(weights)
        for row, learner in enumerate(self.learners):
            learner.flat.move(weights[row], gradients[row])
        places = first.flat.places
        self.parameters = {name: places[name].view(weights).requires_grad_() for name in first.flat.names}
        self._gradients = [places[name].view(gradients) for name in first.flat.names]
        self.buffers = {name: torch.stack([buffer] * count) for name, buffer in first.model.named_buffers()}
        for row, learner in enumerate(self.learners):
            for name, rows in self.buffers.items():
                path, _, last = name.rpartition(".")
                module = learner.model.get_submodule(path)
                rows[row].copy_(module._buffers[last])
                module._buffers[last] = rows[row]
        self._loss = self.functional_loss()

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that `backward` reads and writes besides its batch."""
        return [*self.parameters.values(), *self.buffers.values(), *self._gradients]

    def functional_loss(self) -> FunctionalLoss:
        """Weights, buffers, inputs and targets, each [runs, ...] -> mean losses [runs]."""
        return torch.func.vmap(self.first.functional_loss())

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of each learner's own batch: [runs, batch, ...] twice -> [runs]."""
        return self._loss(self.parameters, self.buffers, inputs, targets)

    def backward(self, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """Put the gradients of each learner's batch, stacked as in `loss`, in place; returns the losses [runs]."""
        with self.first.autocast(), self._attention():
            values = (loss or self.loss)(*batch)
        gradients = torch.autograd.grad(values.sum(), list(self.parameters.values()))
        with torch.no_grad():
            torch._foreach_copy_(self._gradients, gradients)
        return values.detach()

    def _attention(self) -> contextlib.AbstractContextManager[Any]:
        # torch's fused attention for CPUs has no batching rule and would take one run at a time
        return sdpa_kernel(SDPBackend.MATH) if self.first.device.type == "cpu" else contextlib.nullcontext()


def stackable(spec: RunSpec) -> tuple[Any, ...] | None:
    """A key: specs with equal keys can be stacked. None if the spec cannot be stacked at all.

    Stacked specs may differ in seeds, learning rates, decay, schedules and evaluation. Dropout would draw from one
    generator, so that a run depended on its neighbours; a gradient scaler would skip a step of the whole stack;
    micro-batches are for networks that fill a device alone; and parts of another precision belong to one network.
    """
    if spec.micro_batch_size or spec.precision == "float16" or getattr(spec.model, "dropout", 0):
        return None
    if spec.float32_parts or spec.rounding:
        return None
    return spec.model, spec.data, spec.batch_size, spec.steps, spec.precision, spec.optimizer.name
