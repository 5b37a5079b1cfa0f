"""How a decaylab command can end early."""


class InputError(Exception):
    """The user's input is wrong. Printed as one line; exit code 2; nothing is written.

    The message names the file, the key and what was expected.
    """


class Interrupted(Exception):
    """A training was asked to stop (SIGTERM, Ctrl-C or a time limit) and has saved its state."""


class Lost(Interrupted):
    """Another process of the same training has ended or cannot be reached, so this one ends, too."""
