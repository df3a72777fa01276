"""`python -m tasks STAGE APPLICATION`: one stage of one application, without Prefect; DVC's stages call it.

Called by a person it records the stage in `dvc.lock` itself, as DVC does where it is the caller.
"""

import argparse
import importlib.util
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

OWN = Path(__file__).parent.parent / ".venv" / "bin" / "python"
if importlib.util.find_spec("filelock") is None and OWN.exists():
    # DVC calls `python`: without an activated installation that is another one, which lacks the packages.
    os.execv(OWN, [str(OWN), "-m", "tasks", *sys.argv[1:]])

from tasks.collector import spare_imports  # noqa: E402

spare_imports()

from tasks.failure import explained  # noqa: E402
from tasks.launch import follows  # noqa: E402
from tasks.workspace import checkout  # noqa: E402


def main(arguments: list[str]) -> int:
    """Parse, run, report; the exit status is 1 for a fault of the input and 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    parser.add_argument("stage", help="a stage of tasks/pipeline.py, or `weights`")
    parser.add_argument("name", help="an application of params.yaml, or for `weights` one of its weights")
    given = parser.parse_args(arguments)
    with explained(f"{given.stage} {given.name}"), recording(given.stage, given.name):
        if given.stage == "weights":
            from tasks.weights import fetch_weights

            fetch_weights(given.name)
        else:
            from tasks.pipeline import run_stage

            receipt = run_stage(given.stage, given.name)
            if not follows():
                print(f"{given.stage} {given.name}: {receipt.rows} rows in {receipt.seconds:.1f} s")
    return 0


def recording(stage: str, name: str) -> AbstractContextManager[None]:
    """Record in `dvc.lock` what is run, unless DVC is the caller, or this process helps another one.

    ValueError for unknown names.
    """
    if "DVC_STAGE" in os.environ or follows():
        return nullcontext()
    from tasks.parameters import load_parameters
    from tasks.pipeline import find_stage
    from tasks.versioning import recorded

    root = checkout().root
    if stage != "weights":  # before DVC is asked, whose answer would be harder to read
        find_stage(stage)
        load_parameters(root / "params.yaml").application(name)
    return recorded(root, f"{stage}@{name}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
