"""Decay forms: one file each, found by its name; see `decaylab.optim.form`."""
