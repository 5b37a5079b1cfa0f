"""`python -m decaylab`."""

from decaylab.cli import main

main()
