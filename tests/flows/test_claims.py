"""Only one run has an application, as long as it renews its claim at a real Prefect server."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import command
from tests.machines import Machines
from tests.prefect_server import Server
from tests.scratch import lock_entries
from tests.waiting import PATIENCE_SECONDS, until


def test_a_holder_that_loses_its_claim_stops(machines: Machines, server: Server) -> None:
    process = machines.start("a", "flows", "run", "mine")
    until(lambda: machines.in_training("a"), "a training")
    [claim] = server.claims()
    server.ask("DELETE", f"/variables/{claim['id']}")
    assert process.wait(PATIENCE_SECONDS) == 1
    text = machines.log("a").read_text()
    assert "run mine: claim-mine is lost: somebody else took the application over" in text
    assert "Traceback" not in text
    assert "fine_tune@mine: ran" not in text
    assert set(lock_entries(machines.place / "a")) == {"download@mine", "clean@mine", "split@mine"}


LEASE = 8
"""Seconds."""


@pytest.fixture
def claims(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`Claims` of this process, at the server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.claims import Claims

    monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", str(LEASE))
    with temporary_settings({PREFECT_API_URL: server.address}):
        yield Claims


def test_an_application_is_held_by_one_and_given_back(claims: Any, server: Server) -> None:
    turns: list[tuple[str, bool]] = []
    with claims() as first:
        assert first.take("upstream") is False
        assert first.take("pets") is False
        assert [each["name"] for each in server.claims()] == ["claim-pets"]

        def wait() -> None:
            with claims() as second:
                turns.append(("second", second.take("pets")))

        thread = threading.Thread(target=copy_context().run, args=(wait,))
        thread.start()
        # Renewed once a second: what is renewed is not taken over, however long its lease.
        until(lambda: server.claims()[0]["value"]["beat"] > LEASE + 2, "renewals")
        turns.append(("first", False))
    thread.join()
    assert turns == [("first", False), ("second", True)]
    assert server.claims() == []


LOST = "claim-pets is lost: somebody else took the application over"


def lose(claims: Any, server: Server, work: Callable[[], object]) -> None:
    """Work that goes on when its claim is gone."""
    with claims() as held:
        held.take("pets")
        [claim] = server.claims()
        server.ask("DELETE", f"/variables/{claim['id']}")
        work()


@pytest.mark.timeout(method="thread")
def test_a_holder_that_waits_is_stopped(claims: Any, server: Server) -> None:
    with pytest.raises(OSError, match=LOST):
        lose(claims, server, threading.Event().wait)


@pytest.mark.timeout(method="thread")
def test_a_holder_is_stopped_while_it_starts_threads(claims: Any, server: Server) -> None:
    """As a training does for its batches; beside one that is busy, so that a new one waits for its turn."""
    over = threading.Event()

    def begin() -> None:
        while True:
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    busy = threading.Thread(target=lambda: all(not over.is_set() for _ in iter(int, 1)))
    busy.start()
    try:
        with pytest.raises(OSError, match=LOST):
            lose(claims, server, begin)
    finally:
        over.set()
        busy.join()


def test_afterwards_the_signal_means_what_it_did(claims: Any, server: Server) -> None:
    from flows.claims import STOP

    before = signal.getsignal(STOP)
    with claims() as held:
        held.take("pets")
        assert signal.getsignal(STOP) is not before
    assert signal.getsignal(STOP) is before


def test_a_claim_outlives_a_restart_of_the_server(
    claims: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", "60")
    with claims() as held:
        held.take("pets")
        server.stop()
        server.start()
        beat = server.claims()[0]["value"]["beat"]
        until(lambda: server.claims()[0]["value"]["beat"] > beat, "a renewal")
    assert server.claims() == []


def test_without_a_server_that_stays_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.claims import Claims

    with temporary_settings({PREFECT_API_URL: None}), Claims() as claims:
        assert claims.shared is False
        assert claims.take("pets") is False


def test_a_server_that_does_not_answer_is_told_in_one_message(template: Path) -> None:
    nowhere = "http://127.0.0.1:9/api"
    done = command(
        template, "flows", "run", "mine", check=False, PREFECT_API_URL=nowhere, PREFECT_CLIENT_MAX_RETRIES="0"
    )
    assert done.returncode == 1
    assert f"run mine: Failed to reach API at {nowhere}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_names_and_lengths_that_prefect_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.claims import lease_seconds, variable

    assert variable("camvid_tiny") == "claim-camvid_tiny"
    assert variable("My.Pets") == "claim-_4d_y_2e__50_ets"
    for wrong in ("1.9", "-5", "soon", ""):
        monkeypatch.setenv("PRACTICUM_LEASE_SECONDS", wrong)
        with pytest.raises(ValueError, match=r"PRACTICUM_LEASE_SECONDS is .*; it must be a number from 2 on"):
            lease_seconds()
