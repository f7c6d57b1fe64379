"""The library behind the pipeline's stages and the service: a sub-package per concern."""

import os

# OpenMP's threads wait for each other by spinning, which slows training down beside any other busy process. Waiting
# asleep costs a little on an idle machine and changes no result; `python -m benchmarks.neighbours` measures both.
# OpenMP reads this when PyTorch or scikit-learn is first imported, so it has to come before them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
