from decaylab import probes
from decaylab.report.metric_names import METRICS, is_share, label, lower_is_better


def test_columns_of_probes_are_named_in_their_own_files():
    assert label("lost_updates") == probes.columns()["lost_updates"][0]
    assert label("lost_updates.mlp").endswith(", mlp")
    assert is_share("lost_updates.mlp")
    assert not set(METRICS) & set(probes.columns())


def test_losses_have_units_and_errors_are_shares():
    assert label("ema_test_loss") == "test loss (nats)\nof the averaged weights"
    assert is_share("ema_test_error")
    assert not is_share("test_loss")
    assert label("some_axis") == "some axis"


def test_only_losses_and_errors_are_better_when_lower():
    assert lower_is_better("validation_loss")
    assert lower_is_better("test_error")
    assert not lower_is_better("weight_norm.mlp")
    assert not lower_is_better("generalisation_gap")
