"""On what the figures were measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pyarrow", "prefect", "dvc", "mlflow")
PEER_PACKAGES = ("fastai", "torch", "torchvision", "spacy", "pandas", "pillow")


def facts(peer: str | None) -> dict[str, Any]:
    """Hardware and versions, for the page."""
    import psutil
    import torch

    bf16 = [name for name, there in torch.cpu.get_capabilities().items() if there and "bf16" in name]
    devices = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "processors to use": len(os.sched_getaffinity(0)),
        "bf16 on the processor": ", ".join(bf16) or "none",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "accelerators": ", ".join(devices) or "none at hand: the device paths were not run",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": _told({name: metadata.version(name) for name in PACKAGES}),
        "fastai's environment": _told(_versions(peer)) if peer else "not run",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _versions(python: str) -> dict[str, str]:
    program = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""
    done = subprocess.run([python, "-c", program, *PEER_PACKAGES], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _told(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
