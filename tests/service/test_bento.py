"""The Bento holds everything it needs to run, no training code, and runs from any folder."""

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
    """Return {package: version} of a requirements file."""
    lines = [re.split(r"[ ;]", line)[0] for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.lower())


def with_dependencies(names) -> set[str]:
    """Return packages and their installed dependencies, without extras that nothing requires."""
    seen: set[tuple[str, tuple]] = set()
    todo = [(name, ()) for name in names]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            requirements = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # for another system
            continue
        todo += [(canonical(one.name), tuple(sorted(one.extras))) for one in requirements if applies(one, extras)]
    return {name for name, _ in seen}


def applies(requirement: Requirement, extras) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in ("", *extras))


def imported_at_once(path: Path) -> set[str]:
    """Return the top-level packages that a module imports when it is loaded."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_service_s_packages_have_the_pins_of_all_others():
    service, direct, locked = pins("service/requirements.txt"), pins("requirements.txt"), pins("requirements.lock")
    assert {name: (direct | {"mlflow-skinny": direct["mlflow"]})[name] for name in service} == service
    assert {name: locked[name] for name in service} == service


@pytest.fixture(scope="module")
def modules(package, tmp_path_factory) -> set[Path]:
    """The repository's files that a service loads to serve and to send figures to MLflow."""
    folder = tmp_path_factory.mktemp("modules")
    program = (
        "import sys, service.service, service.monitoring.rollup\n"
        "for module in list(sys.modules.values()): print(getattr(module, '__file__', None) or '')"
    )
    settings = {"MRI_SERVICE": str(package), "MRI_MONITORING_URL": f"sqlite:///{folder / 'm.db'}"}
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=True)
    files = {Path(line).relative_to(ROOT) for line in done.stdout.splitlines() if line.startswith(str(ROOT))}
    return {path for path in files if path.parts[0] in ("mri", "service")}


def test_the_service_uses_reading_inference_and_tracking_alone(modules):
    assert {Path("service/api.py"), Path("mri/inference/package.py")} <= modules
    used = {path.parts[1] for path in modules if path.parts[0] == "mri" and len(path.parts) > 2}
    assert used == {"base", "data", "inference", "tracking"}


def test_what_the_service_imports_is_what_its_requirements_bring(modules):
    names = set().union(*(imported_at_once(ROOT / path) for path in modules))
    names -= {"mri", "service"} | sys.stdlib_module_names
    distributions = packages_distributions()
    available = with_dependencies(pins("service/requirements.txt"))
    assert {name for name in names if not available & {canonical(one) for one in distributions[name]}} == set()
    assert "torch" not in available


@pytest.mark.slow
def test_a_bento_holds_no_training_and_serves_from_any_folder(package, tmp_path, modules):
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for folder in ("mri", "service"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # Without asking an index for the versions of what the packages require.
    (source / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + "lock_packages = false\n")
    shutil.copytree(package, source / "artifacts/service")
    elsewhere.mkdir()
    environment = os.environ | {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    build = [sys.executable, "-m", "bentoml", "build"]
    done = subprocess.run(build, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (bento,) = (tmp_path / "bentoml/bentos/brain_tumour_classifier").glob("*/src")
    built = {path.relative_to(bento) for path in bento.rglob("*.py")}
    assert modules <= built
    assert {path.parts[1] for path in built if path.parts[0] == "mri" and len(path.parts) > 2} == {
        "base",
        "data",
        "inference",
        "tracking",
    }
    expected = Predictor(package).predict(packages.scan()).opinion.probabilities
    shutil.rmtree(source)
    command = ["brain_tumour_classifier:latest"]
    with served(tmp_path, 1, command=command, working=elsewhere, MRI_SERVICE="") as service:
        answer = httpx.post(f"{service.address}/predict", files={"image": packages.scan()}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert "Brain-tumour MRI classifier" in httpx.get(service.address).text
