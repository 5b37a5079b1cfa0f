"""Published rules for how much weight decay a training should get, as pure functions.

Conventions: `learning_rate` is the peak; `weight_decay` is PyTorch's decoupled coefficient, where a step
multiplies a weight by 1 - learning_rate x weight_decay. Batch size and data size are counted in the same
unit, sequences or tokens; only `power_lines_batch_size` depends on which.
"""

from __future__ import annotations

import math

POWER_LINES_SEQUENCE = 2048
"""tokens in one sequence of the Power Lines paper, the unit of its batch sizes"""


def timescale(batch_size: float, learning_rate: float, weight_decay: float, data_size: float) -> float:
    """AdamW's averaging time, B / (lr x wd x D), as a fraction of a training on D examples.

    AdamW's weights are a moving average of its updates over 1 / (lr x wd) steps (Wang and Aitchison 2024,
    arXiv 2405.13698); measured in passes over D it is Power Lines' tau (Bergsma et al. 2025, arXiv 2505.13738).
    """
    return batch_size / (learning_rate * weight_decay * data_size)


def power_lines_timescale(tokens_per_parameter: float) -> float:
    """Best timescale, 1.084 x TPP^-0.527 (Power Lines, arXiv 2505.13738).

    Fitted where the learning rate falls linearly to 0, under muP.
    """
    return 1.084 * tokens_per_parameter**-0.527


def power_lines_weight_decay(
    batch_size: float, learning_rate: float, data_size: float, tokens_per_parameter: float
) -> float:
    """Best weight decay, B / (lr x tau_opt x D) (Power Lines). Batch and data in the same unit."""
    return batch_size / (learning_rate * power_lines_timescale(tokens_per_parameter) * data_size)


def power_lines_batch_size(tokens: float, context_length: int = POWER_LINES_SEQUENCE) -> float:
    """Best batch size in sequences of `context_length` tokens: 0.0306 x D^0.383 (Power Lines).

    Unit trap: D is in tokens, but the result of the formula is in sequences of 2048 tokens. For another context
    length the tokens of the batch are kept, so that 134.7 sequences of 2048 are 269.4 of 1024. Putting D in
    sequences, or reading the result as sequences of 1024, gives numbers that mean nothing (9.47 where 269 is due).
    """
    return 0.0306 * tokens**0.383 * POWER_LINES_SEQUENCE / context_length


def normalised_weight_decay(
    normalised: float, batch_size: float, data_size: float, epochs: float, learning_rate: float
) -> float:
    """PyTorch weight decay for a normalised one: wd_norm x sqrt(B / (D x epochs)) / lr.

    Loshchilov and Hutter (arXiv 1711.05101, normalised weight decay) scale the decay of a step with one over the
    root of the number of steps. Their decay is not multiplied by the learning rate, PyTorch's is: hence / lr.
    """
    return normalised * math.sqrt(batch_size / (data_size * epochs)) / learning_rate


def constant_epochs_weight_decay(batch_size: float, learning_rate: float, data_size: float, epochs: float) -> float:
    """Weight decay whose averaging time is `epochs` passes over the data set: B / (lr x epochs x D).

    Wang and Aitchison (arXiv 2405.13698) find the best number of epochs nearly constant across data-set and
    model sizes, so that the best decay halves when the data set doubles.
    """
    return batch_size / (learning_rate * epochs * data_size)


def equilibrium_rms(learning_rate: float, weight_decay: float) -> float:
    """Root mean square of a weight matrix's entries under AdamW at equilibrium: sqrt(lr / (2 wd)).

    Kosson et al. 2024 (arXiv 2305.17212); for scale-invariant weights and small lr x wd. Without the factor
    sqrt((1 - beta1) / (1 + beta1)) that is sometimes put there: momentum lengthens a sum of updates as much as it
    shortens each.
    """
    return math.sqrt(learning_rate / (2 * weight_decay))


def equilibrium_angular_update(learning_rate: float, weight_decay: float, beta1: float = 0.9) -> float:
    """Angle in radians by which a weight vector turns in one AdamW step at equilibrium.

    sqrt(2 lr wd (1 - beta1) / (1 + beta1)) (Kosson et al. 2024, arXiv 2305.17212).
    """
    return math.sqrt(2 * learning_rate * weight_decay * (1 - beta1) / (1 + beta1))


def equilibrium_steps(learning_rate: float, weight_decay: float) -> float:
    """Steps in which the distance to equilibrium falls by e: 1 / (2 lr wd) (Kosson et al. 2024, arXiv 2305.17212)."""
    return 1 / (2 * learning_rate * weight_decay)
