"""Warn when params.yaml no longer is what conf/ composes to: `dvc repro` reads params.yaml alone."""

import os
import sys

from mri.base import cli
from mri.base.params import Params, parse
from mri.commands.compose import compose
from mri.tracking.run import flatten


def conf(params: Params) -> None:
    """Name the parameters that differ, in one line; DVC runs this when a file in conf/ has changed.

    Silent in an experiment, whose params.yaml `dvc exp run` has just composed, with the overrides that it was given.
    """
    composed, current = (flatten(each.model_dump()) for each in (parse(compose([]), "conf"), params))
    differing = [key for key in composed | current if composed.get(key) != current.get(key)]
    if differing and not os.environ.get("DVC_EXP_NAME"):
        rest = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        print(
            f"warning: params.yaml, which this run takes, differs from conf/ in {', '.join(differing[:3])}{rest}: "
            "`make params` composes it anew",
            file=sys.stderr,
        )


if __name__ == "__main__":
    cli.run_stage(conf)
