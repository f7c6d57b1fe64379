"""One file per stage of dvc.yaml: file name = stage name = function name. Parameters in, library calls, files out."""

import mri  # noqa: F401  (before PyTorch: see there)
