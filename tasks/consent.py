"""Consent to terms that restrict the use of data: asked for once per source and licence, and recorded."""

import datetime
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tasks.workspace import Workspace, shared_state

VARIABLE = "PRACTICUM_CONSENT"
"""Environment variable for unattended machines: names of sources whose terms were accepted, by commas."""


def record_consent(name: str, licence: str, *, workspace: Workspace) -> Path:
    """Record that the user accepts `licence` of source `name`; returns the file."""
    path = consent_file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = _read(path)
    records[name] = {
        "licence": licence,
        "sha256": _digest(licence),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
    fresh.replace(path)
    return path


def has_consent(name: str, licence: str, *, workspace: Workspace) -> bool:
    """Whether this very text was accepted: changed terms are asked for anew."""
    if name in os.environ.get(VARIABLE, "").replace(" ", "").split(","):
        return True
    record = _read(consent_file(workspace)).get(name)
    return isinstance(record, dict) and record.get("sha256") == _digest(licence)


def require_consent(name: str, licence: str, command: str, *, workspace: Workspace) -> None:
    """ValueError with the terms and the command that records consent, unless it is recorded."""
    if not has_consent(name, licence, workspace=workspace):
        raise ValueError(
            f"{name} may be used on these terms only: {licence}.\n"
            f"Read them; if you accept, record it with `{command}` and start again"
            f" (unattended: {VARIABLE}={name})"
        )


def consent_file(workspace: Workspace) -> Path:
    """One file per checkout, shared by its work trees and experiments."""
    return shared_state(workspace.root) / "consent.json"


def _digest(licence: str) -> str:
    return hashlib.sha256(licence.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        records = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); repair or delete it") from None
    return records if isinstance(records, dict) else {}
