"""Loss of frequent and of rare tokens: strong decay may give up the rare ones (Pinto et al. 2024, arXiv 2410.11985)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "text"
COLUMNS = {"token_loss": ("validation loss of tokens", "nats")}
BINS = ("frequent", "middle", "rare")
BOUNDS = (0.5, 0.9)
"""share of the training tokens that are more frequent: a bin begins where the one before it ends"""


class Probe(BaseProbe):
    """`token_loss.frequent`, `.middle` and `.rare`: mean validation loss by how frequent the token to predict is.

    Frequencies are those of the targets of the fixed training examples. The most frequent tokens that make up half of
    them are frequent, and those that make up the last tenth are rare, unseen ones included.
    """

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor]:
        settings, size = view.spec.evaluation, view.model.head.out_features
        targets = [target for _, target in view.batches("train", settings.train_examples)]
        bins = frequency_bins(torch.cat([target.flatten() for target in targets]), size)
        sums, counts = torch.zeros(2, len(BINS), dtype=torch.float64, device=bins.device)
        for inputs, target in view.batches("validation", settings.examples):
            with view.autocast():
                logits = view.model(inputs)
            losses = F.cross_entropy(logits.float().flatten(0, -2), target.flatten(), reduction="none").double()
            where = bins[target.flatten()]
            sums.index_add_(0, where, losses)
            counts.index_add_(0, where, torch.ones_like(losses))
        return {f"token_loss.{name}": value for name, value in zip(BINS, sums / counts, strict=True)}

    def example_passes(self, spec: RunSpec) -> float:
        return float(spec.evaluation.examples or 1000)


def frequency_bins(tokens: Tensor, size: int) -> Tensor:
    """Bin of each of `size` token ids by their frequency among `tokens` [n]: int64 [size], see BINS.

    Equally frequent tokens are ordered by their ids.
    """
    counts = torch.zeros(size, dtype=torch.float64, device=tokens.device)
    counts.index_add_(0, tokens, torch.ones_like(tokens, dtype=torch.float64))
    order = counts.argsort(descending=True, stable=True)
    ordered = counts[order]
    before = (ordered.cumsum(0) - ordered) / ordered.sum()
    bins = torch.empty(size, dtype=torch.int64, device=tokens.device)
    bins[order] = torch.bucketize(before, torch.tensor(BOUNDS, dtype=torch.float64, device=tokens.device), right=True)
    return bins
