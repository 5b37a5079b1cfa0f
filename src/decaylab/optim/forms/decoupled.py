"""w <- (1 - lr c) w, then the optimizer's update: torch.optim.AdamW."""

from decaylab.optim.form import DecayForm


class Form(DecayForm):
    """Decoupled decay, multiplied by the learning rate."""
