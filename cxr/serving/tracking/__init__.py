"""MLflow, one way: runs and models are sent to a tracking server, and nothing is read back from it.

It is off unless MLFLOW_TRACKING_URI is set. What is sent is read from records that are on disk. MLflow
is imported in a process of its own alone (`child`), so that a server that is down or slow costs its
deadline and a warning, and never the run.
"""
