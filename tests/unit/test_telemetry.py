"""Nothing is reported to the makers of the libraries that we use."""

import subprocess
import sys

import pytest

ASKING = "import {module}; from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"


@pytest.mark.parametrize("module", ["nerloop.registry", "nerloop.runs", "nerloop.live_run", "nerloop.mlflow_door"])
def test_mlflow_reports_nothing_whichever_module_brings_it_in(module):
    asking = [sys.executable, "-c", ASKING.format(module=module)]

    asked = subprocess.run(asking, env={}, check=True, capture_output=True, text=True)  # tests are not reported anyway

    assert asked.stdout.split() == ["None"]
