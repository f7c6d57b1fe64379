"""Send the figures of what was recorded to MLflow, once: python -m service.monitoring"""

from mri.cli import guarded
from service.monitoring.rollup import main

guarded(main)
