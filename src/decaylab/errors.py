"""The two ways a decaylab command can end early."""


class InputError(Exception):
    """The user's input is wrong: printed as one line, exit code 2, nothing written.

    The message names the file, the key and what was expected.
    """


class Interrupted(Exception):
    """A training was asked to stop (SIGTERM, Ctrl-C or a time limit) after saving its state."""
