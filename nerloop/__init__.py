"""The shared core of the annotation loop: documents, model, registry and the doors to other systems."""

import os

__version__ = "0.1.0"

# Here, because MLflow reads these when its first module is imported, by whichever of ours that is.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # who asks knows better when to ask again
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # there, commands print what scripts read
