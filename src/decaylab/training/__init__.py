"""Training: one loop for images and text, checkpoints, and the price of a run."""
