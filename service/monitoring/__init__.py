"""Monitoring over time: what is recorded of every prediction, and what is made of the records.

middleware.py   makes a row of every predicted image, for the recorder and for Prometheus
recorder.py     writes rows to the store from a thread of its own
store.py        the database and its tables
statistics.py   counts, latencies and accuracy of a stretch of time
drift.py        compares windows of predictions with the packaged reference
rollup.py       sends figures to MLflow; python -m service.monitoring does so once
background.py   deletes old rows, compares windows and starts roll-ups, in one of the workers
monitor.py      puts these together for one worker; the routes /monitoring and /api/monitoring
static/         the dashboard's files
"""
