"""The command line. Exit codes: 0 done, 2 the user's input is wrong, 1 anything else."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer

from decaylab.cli import advise, decide, evidence, exchange, new, plan, results, train
from decaylab.errors import InputError, Interrupted, Lost
from decaylab.training import launcher

app = typer.Typer(
    help="Re-run the published experiments about weight decay, and judge their claims.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
filed = typer.Typer(
    help="Runs measured on named hardware, filed under replications/<name>/evidence/.", no_args_is_help=True
)
for command in (
    plan.plan,
    plan.data,
    plan.register,
    train.train,
    decide.decide,
    decide.verify,
    results.judge,
    results.render,
    results.site,
    exchange.export,
    exchange.evaluate,
):
    app.command()(command)
app.command()(evidence.pack)
app.command()(new.new)
app.command()(advise.advise)
for command in (evidence.collect, evidence.add, evidence.restore, evidence.render, evidence.site):
    filed.command()(command)
app.add_typer(filed, name="evidence")

# click's, or that of the copy of click inside newer versions of typer
_UsageError: Any = typer.BadParameter.__base__


def main() -> None:
    """Entry point: turns every expected error into one line and an exit code."""
    try:
        raise SystemExit(app(prog_name="decaylab", standalone_mode=False))
    except _UsageError as error:
        message = error.format_message().removesuffix(".").replace("Value error, ", "")
        if "\n" in message:  # no command was given, so the message is the help
            error.show()
            raise SystemExit(2) from None
        words = error.ctx.command_path.split() if error.ctx else ["decaylab"]
        _fail(f"{': '.join([*words[1:], message])} (see `{' '.join(words)} --help`)", 2)
    except typer.Abort:
        _fail("stopped", 1)
    except (InputError, Interrupted) as error:
        code = 2 if isinstance(error, InputError) else launcher.LOST if isinstance(error, Lost) else 1
        if launcher.speaks(error):
            _fail(str(error), code)
        launcher.leave(code)
    except (MemoryError, RuntimeError) as error:
        # torch's error of a GPU is a RuntimeError by name; that of its CPU allocator, by its text only
        text = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and not re.search(
            "out of memory|can't allocate memory|std::bad_alloc|could not create a primitive", text
        ):
            raise
        _fail(f"out of memory ({text:.120}); what was saved before is intact", 1)
    except OSError as error:
        _fail(f"{error.filename or 'input/output'}: {error.strerror or error}; what was saved before is intact", 1)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"decaylab: {' '.join(message.split())}\n")
    launcher.leave(code)
