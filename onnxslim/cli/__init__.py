"""The command line: arguments in, exit status out.

0: done. 1: the work failed (the result would not compute the same). 2: bad usage or bad input; one
line on standard error says what, where and what to do, and no output file appears.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import click

from onnxslim.cli import commands, many, packing, regress, tuning
from onnxslim.errors import OnnxslimError

COMMANDS: dict[str, click.Command] = {
    "passes": commands.list_passes,
    "inspect": commands.inspect,
    "many": many.many,
    "tune": tuning.tune,
    "pack": packing.pack,
    "unpack": packing.unpack,
    "record": regress.record,
    "check": regress.check,
}
"""What a first word may name; without one, a model is slimmed."""


_RARELY = (100_000, 50, 50)
"""When garbage is collected in a process of ours: importing modules makes much and drops little."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if argv is None:
        gc.set_threshold(*_RARELY)
    args = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(args[0]) if args else None
    args = args[1:] if command is not None else args or ["--help"]
    name = "onnxslim" if command is None else f"onnxslim {command.name}"
    try:
        status = (command or commands.slim).main(args, prog_name=name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except OnnxslimError as error:
        return _fail(str(error), error.exit_status)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        return 1


def _fail(message: str, status: int) -> int:
    print(f"onnxslim: error: {' '.join(message.split())}", file=sys.stderr)
    return status
