"""What the Snakefile asks for. Pure Python without torch, because it runs each time the workflow is parsed."""
