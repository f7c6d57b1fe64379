"""Command lines: the stages' and the tools'. A user's mistake is one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from typing import Any

from mri import params
from mri.errors import UserError


def run_stage(stage: Callable[..., Any], argv: list[str] | None = None) -> None:
    """Run a stage function as a program: parameters from params.yaml, its other arguments from the command line."""
    name = stage.__name__
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=inspect.getdoc(stage),
        epilog=f"Usually run by `dvc repro`; one stage alone: `dvc repro --single-item {name}`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument in list(inspect.signature(stage).parameters)[1:]:
        parser.add_argument(argument)
    arguments = vars(parser.parse_args(argv))
    guarded(lambda: stage(params.load(), **arguments))


def guarded(action: Callable[[], Any]) -> None:
    """Run `action`; exit with 2 and one line for a UserError, with 130 for an interruption."""
    try:
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr)
        sys.exit(130)
