"""Compose params.yaml from conf/, as `dvc exp run` does before it runs.

python -m mri.commands.compose                              # `make params`
python -m mri.commands.compose model=resnet50 train.lr=0.001
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.params import FILE, parse

CONF = Path("conf")


def compose(overrides: list[str], conf: Path = CONF) -> dict[str, Any]:
    """Return the parameters of conf/ with `overrides` such as "model=resnet50" or "train.lr=0.001".

    Raises UserError with Hydra's message, which lists the legal choices of a group. Values are not validated.
    """
    try:
        with initialize_config_dir(str(conf.resolve()), version_base=None):
            return OmegaConf.to_container(hydra_compose("config", overrides), resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(" ".join(str(error).split())) from None


def main() -> None:
    parser = Parser("mri.commands.compose", __doc__)
    parser.add_argument("overrides", nargs="*", help="group=choice or key=value, as after -S of `dvc exp run`")
    parameters = compose(parser.parse_args().overrides)
    parse(parameters)  # a wrong value leaves the file as it is
    FILE.write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    guarded(main)
