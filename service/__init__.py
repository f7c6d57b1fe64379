"""The BentoML service: the networks behind a REST API."""
