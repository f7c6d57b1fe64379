"""The command lines of stages and tools. A user's mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import inspect
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from mri.base.errors import UserError
from mri.base.hardware import keep_freed_memory
from mri.base.timing import note_time


class Parser(argparse.ArgumentParser):
    """Parse the command line of a module, whose docstring explains it; a mistake is one line and exit code 2."""

    def __init__(self, module: str, about: str | None, epilog: str | None = None):
        super().__init__(
            prog=f"python -m {module}",
            description=about,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} --help explains it)\n")


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return the type of an option that is a number above 0, a whole one where `kind` is int."""

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"must be a {'whole ' if kind is int else ''}number above 0, got {text}")
        return number

    return parse


def run_stage(stage: Callable[..., Any], argv: list[str] | None = None) -> None:
    """Run a stage as a program, with the parameters of params.yaml and its other arguments from the command line."""
    from mri.base import params

    name = stage.__name__
    arguments = list(inspect.signature(stage).parameters)[1:]
    example, target = (" resnet50", "@resnet50") if arguments else ("", "")
    alone = f"Usually run by `dvc repro`; to run it alone: `dvc repro --single-item {name}{target}`."
    parser = Parser(f"stages.{name}", inspect.getdoc(stage), f"Example: python -m stages.{name}{example}\n{alone}")
    for argument in arguments:
        parser.add_argument(argument)
    values = vars(parser.parse_args(argv))
    keep_freed_memory()

    def run() -> None:
        with note_time("@".join([name, *values.values()])):
            stage(params.load(), **values)

    guarded(lambda: _missing_inputs_explained(run))


def _missing_inputs_explained(stage: Callable[[], Any]) -> None:
    """Run a stage. Raises UserError when a file is missing that another stage writes."""
    try:
        stage()
    except FileNotFoundError as error:
        missing = str(error.filename)
        if missing.split("/")[0] not in ("artifacts", "metrics", "plots"):
            raise
        raise UserError(f"{missing} does not exist: run `dvc repro`, which makes it first") from None


# Phrases of libraries' messages when a resource is exhausted; none of them raises an exception of its own for it.
EXHAUSTED = {
    "the disk is full": ("No space left on device", "File too large", "Disk quota exceeded"),
    "memory is exhausted": ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory"),
}


def guarded(action: Callable[[], Any]) -> None:
    """Run `action`; exit with 2 and one line for a UserError, a full disk or exhausted memory, with 130 for Ctrl-C."""
    try:
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # libraries raise different ones when a resource is exhausted
        reason = _exhausted(error)
        if reason is None:
            raise
        print(f"error: {reason}; what is finished is kept, and the next run goes on from it", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr)
        sys.exit(130)


def _exhausted(error: Exception) -> str | None:
    """Return what the machine ran out of, with the library's message; None for any other error."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"memory is exhausted ({text})" if text else "memory is exhausted"
    for reason, phrases in EXHAUSTED.items():
        if any(phrase in text for phrase in phrases):
            return f"{reason} ({text[:200]})"
    return None
