"""Speed of decaylab, side by side with other people's training loops: `python -m benchmarks`; see README.md here."""
