"""`python -m tasks STAGE APPLICATION`: one stage of one application, without Prefect. The command of DVC's stages."""

import argparse
import sys

from tasks.failure import explained


def main(arguments: list[str]) -> int:
    """Parse, run, report; the exit status is 1 for a fault of the input and 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    parser.add_argument("stage", help="a stage of tasks/pipeline.py, or `weights`")
    parser.add_argument("name", help="an application of params.yaml, or for `weights` one of its weights")
    given = parser.parse_args(arguments)
    with explained(f"{given.stage} {given.name}"):
        if given.stage == "weights":
            from tasks.weights import fetch_weights

            fetch_weights(given.name)
        else:
            from tasks.pipeline import run_stage

            receipt = run_stage(given.stage, given.name)
            print(f"{given.stage} {given.name}: {receipt.rows} rows in {receipt.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
