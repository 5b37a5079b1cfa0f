"""decaylab: re-run the published experiments about weight decay and judge each claim."""

__version__ = "0.1.0"
