"""The Bento: what it needs to run is in it, and it runs from any folder."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from benchmarks.local_service import served
from service.predictor import Predictor
from tests import packages

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, str]:
    """{package: version} of a requirements file."""
    lines = [re.split(r"[ ;]", line)[0] for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())


def brought(names) -> set[str]:
    """Packages and all that they require here, optional parts left out unless they are asked for."""
    seen: set[tuple[str, tuple]] = set()
    todo = [(name, ()) for name in names]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # for another system
            continue
        todo += [(canonical(one.name), tuple(sorted(one.extras))) for one in needed if applies(one, extras)]
    return {name for name, _ in seen}


def applies(requirement: Requirement, extras) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in ("", *extras))


def imported_at_once(path: Path) -> set[str]:
    """Top-level names of what a module imports when it is loaded."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_service_s_packages_have_the_pins_of_all_others():
    own, direct, locked = pins("service/requirements.txt"), pins("requirements.txt"), pins("requirements.lock")
    assert {name: (direct | {"mlflow-skinny": direct["mlflow"]})[name] for name in own} == own
    assert {name: locked[name] for name in own} == own


def test_what_the_service_imports_is_what_its_requirements_bring(tmp_path):
    packages.package(tmp_path / "package")
    program = (
        "import sys, service.service\n"
        "for module in list(sys.modules.values()): print(getattr(module, '__file__', None) or '')"
    )
    settings = {"MRI_SERVICE": str(tmp_path / "package"), "MRI_MONITORING_URL": f"sqlite:///{tmp_path / 'm.db'}"}
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=True)
    files = [Path(line) for line in done.stdout.splitlines() if line.startswith(str(ROOT))]
    own = {path for path in files if path.relative_to(ROOT).parts[0] in ("mri", "service")}
    assert {ROOT / "service/api.py", ROOT / "mri/inference/package.py"} <= own
    names = set().union(*(imported_at_once(path) for path in own)) - {"mri", "service"} - sys.stdlib_module_names
    distributions = packages_distributions()
    available = brought(pins("service/requirements.txt"))
    assert {name for name in names if not available & {canonical(one) for one in distributions[name]}} == set()
    assert "torch" not in available


@pytest.mark.slow
def test_a_bento_serves_from_any_folder(tmp_path):
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for folder in ("mri", "service"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # Without asking an index for the versions of what the packages require.
    (source / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + "lock_packages = false\n")
    packages.package(source / "artifacts/service")
    elsewhere.mkdir()
    environment = os.environ | {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    build = [sys.executable, "-m", "bentoml", "build"]
    done = subprocess.run(build, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = Predictor(source / "artifacts/service").predict(packages.scan()).opinion.probabilities
    shutil.rmtree(source)
    command = ["brain_tumour_classifier:latest"]
    with served(tmp_path, 1, command=command, working=elsewhere, MRI_SERVICE="") as service:
        answer = httpx.post(f"{service.address}/predict", files={"image": packages.scan()}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert "Brain-tumour MRI classifier" in httpx.get(service.address).text
