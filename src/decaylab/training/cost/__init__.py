"""What a run costs: operations counted, steps timed on this machine, and known GPUs."""
