"""What a figure was measured on; every benchmark writes it into its JSON."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


def machine() -> dict[str, Any]:
    """Return CPU model, the flags that matter for speed, cores and versions."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "flags": [flag for flag in CPU_FLAGS if f" {flag} " in cpu],
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "mlflow", "rq", "label-studio-sdk")},
    }
