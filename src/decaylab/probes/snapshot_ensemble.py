"""An ensemble of snapshots of the large-learning-rate phase, against the moving average of the weights.

SGD at a large learning rate with decay does not come to rest. If the loss is nearly quadratic where it moves, the
averaged weights predict like the average of its predictions. Tables 2 and 3 of the NeurIPS version of arXiv 2310.04415
compare the two in test error and in total variation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from decaylab.probes._mode import evaluation_mode
from decaylab.probes._protocol import BaseProbe, View
from decaylab.spec import RunSpec

NEEDS = "images"
COLUMNS = {
    "ensemble_error": ("test error of the ensemble of snapshots", "share"),
    "ensemble_loss": ("test loss of the ensemble of snapshots", "nats"),
    "ensemble_to_average": ("total variation, ensemble and averaged weights", "share"),
    "ensemble_to_weights": ("total variation, ensemble and weights", "share"),
    "average_to_weights": ("total variation, averaged weights and weights", "share"),
}
PARAMETERS = {"since": {"default": 0.25, "ge": 0.0, "lt": 1.0}}


class Probe(BaseProbe):
    """Test error and loss of the ensemble, and distances between the predictions of three predictors.

    Each measurement after the fraction `since` of the run adds a member to the ensemble, as long as the learning rate
    is at its peak. The ensemble predicts the mean of its members' probabilities. Once the learning rate has fallen, the
    ensemble stays as it is, and `average` stays the averaged weights at the last member; `weights` are always those of
    this step: a snapshot at first, the fine-tuned network in the end.

    Distances are the total variation, half the sum over classes of |p - q|, averaged over the evaluation's test images.
    They lie between 0 and 1.
    """

    since: float

    @torch.no_grad()
    def measure(self, view: View) -> dict[str, Tensor]:
        at_peak = view.learning_rate == view.spec.optimizer.learning_rate
        joins = at_peak and view.step > self.since * view.spec.steps
        if not (joins or self.state):
            return {}
        batches = list(view.batches("test", view.spec.evaluation.examples))
        weights = probabilities(view.model, batches, view)
        if joins:
            if not self.state:
                self.state = {"sum": torch.zeros_like(weights), "members": torch.zeros_like(weights[0, 0])}
            self.state["sum"] = self.state["sum"] + weights
            self.state["members"] = self.state["members"] + 1
            self.state["average"] = probabilities(view.average(), batches, view)
        ensemble, average = self.state["sum"] / self.state["members"], self.state["average"]
        targets = torch.cat([labels for _, labels in batches])
        return {
            "ensemble_error": (ensemble.argmax(1) != targets).double().mean(),
            "ensemble_loss": -ensemble.gather(1, targets[:, None]).log().mean(),
            "ensemble_to_average": total_variation(ensemble, average),
            "ensemble_to_weights": total_variation(ensemble, weights),
            "average_to_weights": total_variation(average, weights),
        }

    def example_passes(self, spec: RunSpec) -> float:
        return 2.0 * (spec.evaluation.examples or 1000) + spec.evaluation.train_examples


def probabilities(model: nn.Module, batches: list[tuple[Tensor, Tensor]], view: View) -> Tensor:
    """Predicted probabilities of all images, float64 [images, classes]."""
    with evaluation_mode(model), view.autocast():
        logits = torch.cat([model(inputs) for inputs, _ in batches])
    return logits.double().softmax(1)


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Mean over images of half the L1 distance of two sets of probabilities [images, classes]; 0-d."""
    return 0.5 * (first - second).abs().sum(1).mean()
