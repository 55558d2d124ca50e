"""Serves RanerBackend through label-studio-ml's own server: `label-studio-ml start ./ml_backend`.

For those who run it that way (with the environment activated, and projects connected by `nerloop connect`);
`python -m ml_backend` serves the same class with authentication.
"""

import argparse
import os

from label_studio_ml.api import init_app

from ml_backend.model import RanerBackend, services  # not `from model import`: that would load the model twice
from ml_backend.watcher import Watcher

Watcher(services()).start()
app = init_app(model_class=RanerBackend, model_dir=os.environ.get("MODEL_DIR"))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-p", "--port", type=int, default=9090)
    parser.add_argument("--host", default="127.0.0.1")
    arguments, _ = parser.parse_known_args()  # label-studio-ml passes flags that are not for us
    app.run(host=arguments.host, port=arguments.port)
