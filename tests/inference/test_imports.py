import subprocess
import sys

HEAVY = ("torch", "pandas", "sklearn")
LOADED = f"""
import importlib, pkgutil, sys
import mri.inference
for module in pkgutil.iter_modules(mri.inference.__path__):
    importlib.import_module(f"mri.inference.{{module.name}}")
heavy = [name for name in {HEAVY} if name in sys.modules]
ours = {{name.split(".")[1] for name in sys.modules if name.startswith("mri.")}}
print(*heavy, *sorted(ours - {{"base", "inference"}}))
"""


def test_what_the_service_runs_loads_no_training_library_and_no_other_package_of_ours(root):
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
