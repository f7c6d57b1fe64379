"""The library behind the pipeline's stages and the service: a sub-package per concern."""

import os

# OpenMP's threads wait for each other by spinning, which beside a single other busy process makes a training step three
# times as long. Waiting asleep costs a few per cent on an idle machine (benchmarks/neighbours.py measures both) and
# changes no result. OpenMP reads this when PyTorch or scikit-learn is first imported, so it has to come before them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
