"""Send the figures of the recorded predictions to MLflow, once; a running service does so every few minutes.

MLFLOW_TRACKING_URI=http://tracking.example.org:5000 python -m service.monitoring
"""

from mri.base.cli import Parser, guarded
from service.monitoring.rollup import main

Parser("service.monitoring", __doc__).parse_args()
guarded(main)
