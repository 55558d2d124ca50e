"""How every process logs: one line a message on standard error. Owns the format only."""

import logging
import sys


def set_up_logs(level: int = logging.INFO) -> None:
    """Send log messages of this product to standard error with time, level and module; libraries from WARNING on."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
    for package in ("nerloop", "ml_backend", "workers", "sync", "console"):
        logging.getLogger(package).setLevel(level)
