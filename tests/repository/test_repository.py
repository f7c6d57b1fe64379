"""Rules for the repository as a whole."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from importlib.metadata import requires
from pathlib import Path
from threading import Thread

import pytest
import yaml

from mri.export.compact import LIMIT_MB

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# What talks to tracking servers: nothing that a stage leaves for DVC comes from there, and it may be changed without
# training anew. The one exception to the rule that a stage depends on all that it imports.
TRACKING = ("mri/tracking/run.py", "mri/tracking/registry.py")

SECRETS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(ghp|gho|ghs|ghr|github_pat)_[A-Za-z0-9_]{30,}",
    "assigned secret": r"""(?i)(token|password|secret|api_key|access_key)["']?\s*[:=]\s*["'][A-Za-z0-9+/_-]{16,}["']""",
    "URL with a password": r"://[^/\s:@{$<]+:[^/\s:@{$<]{6,}@",
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def imported(path: Path) -> set[Path]:
    """Return the project's own modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [ROOT / name.replace(".", "/") for name in names if name.split(".")[0] in ("mri", "stages", "service")]
    return {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}


def everything_imported(path: Path) -> set[str]:
    """Return a file and everything that it imports, directly or indirectly."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        if file not in seen and not file.as_posix().endswith(TRACKING):
            seen.add(file)
            todo += imported(file)
    return {path.relative_to(ROOT).as_posix() for path in seen if path.read_text().strip()}


def test_stage_file_stage_name_and_function_name_are_one():
    assert sorted(PIPELINE) == STAGES
    for name in STAGES:
        functions = [n.name for n in ast.parse((ROOT / f"stages/{name}.py").read_text()).body if hasattr(n, "name")]
        assert name in functions


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_code_that_it_imports_and_on_no_other(name):
    stage = PIPELINE[name].get("do", PIPELINE[name])
    listed = [dep for dep in stage["deps"] if dep.startswith(("mri", "stages"))]
    needed = everything_imported(ROOT / f"stages/{name}.py")

    def covers(dep: str, file: str) -> bool:
        return file == dep or file.startswith(f"{dep}/")

    assert [file for file in sorted(needed) if not any(covers(dep, file) for dep in listed)] == []
    assert [dep for dep in listed if not any(covers(dep, file) for file in needed)] == []


def test_modules_import_only_what_the_architecture_allows():
    """The rules are in pyproject.toml, [tool.importlinter]; CONTRIBUTING.md draws them."""
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_no_tracked_file_is_larger_than_a_megabyte_but_in_published_packages_of_ten():
    packages = {path for path in (ROOT / "results").glob("*/package") if path.is_dir()}
    large = [path for path in tracked() if path.stat().st_size > 1_000_000]
    assert [path.name for path in large if not packages & set(path.parents)] == []
    for package in packages:
        sizes = [path.stat().st_size for path in package.rglob("*") if path.is_file()]
        assert sum(sizes) <= LIMIT_MB * 1e6, package


def test_the_house_rules_name_the_exception_and_its_size():
    rules = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"a published network\n(results/NAME/package), {LIMIT_MB:g} MB at most" in rules


@pytest.mark.parametrize("kind", SECRETS)
def test_no_tracked_file_holds_a(kind):
    pattern = re.compile(SECRETS[kind])
    offenders = [path.name for path in tracked() if pattern.search(path.read_text(errors="replace"))]
    assert offenders == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        ("AWS key", "AKIA" + "ABCDEFGHIJKLMNOP"),
        ("GitHub token", "ghp_" + "a" * 36),
        ("assigned secret", "token = '" + "0123456789abcdef" + "'"),
        ("URL with a password", "https://me:" + "hunter22@example.org"),
    ],
)
def test_the_scan_would_notice_a(kind, text):
    assert re.search(SECRETS[kind], text)


def test_requirements_are_pinned_and_locked():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    direct = [line.split(" ;")[0] for line in lines if line and line[0] != "#"]
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    for line in direct:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line), line
        name, version = re.sub(r"[._]", "-", line.lower()).split("==")[0], line.split("==")[1]
        assert any(re.match(rf"{re.escape(name)}=={re.escape(version)}( ;|$)", pin) for pin in locked), line


@pytest.mark.parametrize(
    "module",
    [
        "base.params",
        "data.images",
        "inference.runtime",
        "tracking.run",
        "tracking.registry",
        "commands.diff",
        "tracking.sync",
        "commands.notebooks",
    ],
)
def test_a_module_that_needs_no_network_does_not_load_pytorch(module):
    program = f"import sys, mri.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("module", ["mri", "mri.base.params", "mri.data.images", "mri.base.paths", "mri.base.cli"])
def test_a_module_that_everything_loads_is_there_within_a_second(module):
    program = f"import sys, time, {module}; sys.exit(f'{{time.process_time()}} s' if time.process_time() > 1 else 0)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_left_out_of_the_lock_is_what_only_cuda_needs():
    """PyTorch's own index has builds without CUDA, which don't ask for these."""
    makefile = (ROOT / "Makefile").read_text()
    pattern = re.compile(re.search(r"^CUDA := (.+)$", makefile, re.MULTILINE)[1])
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    left_out = {line.split("==")[0] for line in locked if pattern.search(line)}
    asked_for = {re.match(r"[\w-]+", need)[0] for need in requires("torch") if "extra" not in need}
    of_cuda = {name for name in asked_for if name.startswith(("cuda-", "nvidia-")) or name == "triton"}
    assert of_cuda <= left_out
    assert {name.split("-")[0] for name in left_out} == {"cuda", "nvidia", "triton"}
    assert not left_out & {"nvidia-ml-py", "torch"}  # nncf asks for the first


@pytest.fixture
def setup(tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Return a function that runs `make setup` where uv only prints what it was asked to install."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "requirements.txt").write_text("")
    (tmp_path / "requirements.lock").write_text("nvidia-cublas==1\nsix==1.16.0\ntorch==2.14.1\n")
    commands = tmp_path / ".venv/bin"
    commands.mkdir(parents=True)
    (commands / "uv").write_text('#!/bin/sh\necho "uv $@"\nfor last; do :; done\ncat "$last" 2>/dev/null || cat\n')
    (commands / "uv").chmod(0o755)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", "setup", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def index() -> Iterator[str]:
    """The address of a server that stands in for PyTorch's index."""
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(("arguments", "backend"), [((), "auto"), (("CPU=1",), "cpu")])
def test_pytorch_comes_from_its_own_index_in_the_build_that_fits_the_machine(setup, index, arguments, backend):
    done = setup(f"TORCH_INDEX={index}", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"uv pip install --torch-backend={backend} -r -\nsix==1.16.0\ntorch==2.14.1\n" in done.stdout


def test_where_its_index_cannot_be_reached_pytorch_comes_from_pypi_with_cuda(setup):
    done = setup("TORCH_INDEX=http://127.0.0.1:9/")
    assert done.returncode == 0, done.stderr
    assert "PyTorch's index can't be reached" in done.stdout
    assert "uv pip install -r requirements.lock\nnvidia-cublas==1\n" in done.stdout


def test_a_build_without_cuda_that_cannot_be_had_is_refused_in_one_line(setup):
    done = setup("TORCH_INDEX=http://127.0.0.1:9/", "CPU=1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: CPU=1 needs http://127.0.0.1:9/, which can't be reached"
