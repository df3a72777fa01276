"""A flow run whose training has several processes: cancelled, it leaves none of them."""

import signal
from pathlib import Path

from tests.tasks.launched import prepared, running


def test_a_cancelled_flow_run_leaves_no_process(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, phases=[{"epochs": 2000, "rates": [0.001]}], save_every=0.01)
    with running(workspace, "flows", "run", "shapes") as flow:
        assert len(flow.launched()) == 3  # torchrun and two ranks
        flow.process.send_signal(signal.SIGTERM)  # what Prefect sends to the process of a flow run
        status, _ = flow.end()
    assert status
    assert not workspace.folder("shapes", "fine_tune").exists()
