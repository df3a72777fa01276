"""The machine's load while it trains, as MLflow's own monitors measure it."""

import logging
import time
from typing import Any

SAMPLE_SECONDS = 10.0
"""Between samples of processor, memory and accelerator; an epoch logs their mean."""


class Load:
    """Processor, memory, disk, network and accelerator."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._monitor: Any = None
        self._next = 0.0

    def sample(self) -> None:
        """Measure, if the last time is long enough ago."""
        if time.monotonic() < self._next:
            return
        if self._monitor is None:
            logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            # Its own thread ends at the first failure of the server, and is too slow for short runs.
            self._monitor = SystemMetricsMonitor("", tracking_uri=self._uri)  # type: ignore[no-untyped-call]
        self._monitor.collect_metrics()
        self._next = time.monotonic() + SAMPLE_SECONDS

    def mean(self) -> dict[str, float]:
        """Means since the last call, under the names that MLflow's page of system metrics shows."""
        self._next = 0.0
        self.sample()
        means = {f"system/{name}": float(value) for name, value in self._monitor.aggregate_metrics().items()}
        for monitor in self._monitor.monitors:
            monitor.clear_metrics()
        return means
