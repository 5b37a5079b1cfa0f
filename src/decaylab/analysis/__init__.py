"""From results to verdicts. Reads files, never trains, never imports torch."""
