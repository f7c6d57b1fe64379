"""The prediction service: a REST API, a page for people, and its monitoring, served by BentoML.

service.py      what `bentoml serve` starts: settings, predictor and API put together
settings.py     the settings, from environment variables MRI_*
api.py          the routes /predict, /predict_batch, /feedback and /models
schemas.py      the JSON of requests and answers
errors.py       the body that every error has, and which exception becomes which error
predictor.py    from the bytes of a file to a prediction with its explanations
explainer.py    the explanation maps
limits.py       limits on size, time and number of requests
security.py     keys, other websites, and the HTTP headers of every answer
context.py      what the parts that handle one request share: its id and its state
pages/          the classifier at / and the API reference at /docs
monitoring/     what is recorded of every request, and the dashboard at /monitoring

It uses only `mri.base`, `mri.data.images`, `mri.inference` and `mri.tracking`, so it runs without PyTorch.
"""

import sys

try:
    import fcntl  # noqa: F401  (the monitoring store locks its file with it)
except ImportError:
    print("error: the service needs Linux or macOS: on Windows, run it in WSL", file=sys.stderr)
    raise SystemExit(2) from None
