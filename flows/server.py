"""Where Prefect finds its server: PREFECT_API_URL, or a temporary one with its home below `.practicum`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTUP_SECONDS = 180
"""A temporary server takes 7 to 14 seconds on two slow cores; continuous integration can be slower still."""
RETRIES = 6
"""Of a request to a server that processes share: on SQLite it answers 503 while one of them writes."""

UNATTENDED = {
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_LOG_PRINTS": "true",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment of runs that nobody watches: what they say goes to Prefect's pages, with signs of life."""


def prepare(root: Path) -> None:
    """Set the environment of this process and its children. Call before prefect is imported."""
    if "PREFECT_API_URL" not in os.environ:
        home = os.environ.setdefault("PREFECT_HOME", str(root / ".practicum" / "prefect"))
        Path(home).mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder only
        os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(STARTUP_SECONDS))
        # Ctrl-C reaches the temporary server as well; its client shall not wait for it to come back.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # the command reports a failure itself, once
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # `dvc`, and the `python` of its commands, must be this environment's, also where it is not activated.
    own = str(Path(sys.executable).parent)
    if os.environ.get("PATH", "").split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, os.environ.get("PATH", "")])


@contextmanager
def shared() -> Iterator[None]:
    """One server for this process and all that it starts: that of PREFECT_API_URL, or a temporary one.

    OSError where the temporary one does not start.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    server = SubprocessASGIServer()
    try:
        with deaf():
            server.start()
    except RuntimeError as error:
        raise OSError(
            f"{error} Start one (`prefect server start`) and set PREFECT_API_URL to it, or use `dvc repro`,"
            " which needs none"
        ) from None
    # for processes; the settings below are for this one
    own = {"PREFECT_API_URL": server.api_url, "PREFECT_CLIENT_MAX_RETRIES": str(RETRIES)}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_CLIENT_MAX_RETRIES: RETRIES}):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        server.stop()


@contextmanager
def deaf() -> Iterator[None]:
    """Processes started in the body do not hear Ctrl-C unless they ask to: who started them ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
