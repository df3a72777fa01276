"""A look at a source: a real server that has the same file, another one, or nothing."""

import hashlib
import json
import os
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.freshness import look
from tasks.parameters import Parameters
from tasks.pipeline import run_stage
from tasks.versions import Version
from tasks.workspace import Workspace, checkout
from tests import pictures, servers

MIB = 2**20
OLD, NEW = b"old" * MIB, b"new" * MIB


@pytest.fixture
def server() -> Iterator[servers.Server]:
    with servers.running() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "none").touch()
    return checkout(tmp_path)


def publish(workspace: Workspace, address: str, **facts: Any) -> Parameters:
    """An application whose source lies at `address`, in the edition that fetches it."""
    source = {
        "name": "things", "title": "Things", "kind": "archive", "file": "things.zip",
        "addresses": [address], "licence": "CC0", "non_commercial": False, **facts,
    }  # fmt: skip
    (workspace.root / "sources" / "things.yaml").write_text(yaml.safe_dump(source))
    return applied("sources/things.yaml")


def applied(source: str, **more: Any) -> Parameters:
    entry = pictures.entry(source, download={"attempts": 1, "timeout": 2.0})
    return Parameters(**{**pictures.parameters(app=entry), "edition": "full", **more})


def sha256(content: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(content).hexdigest()}


def download(workspace: Workspace, parameters: Parameters) -> None:
    run_stage("download", "app", workspace=workspace, parameters=parameters)


def seen(workspace: Workspace, parameters: Parameters, *, current: bool = True) -> tuple[bool, str]:
    found = look("download@app", current=current, workspace=workspace, parameters=parameters)
    assert found.stage == "download@app"
    return found.again, found.said


def dated(content: bytes, *, changed: float, now: float) -> servers.Answer:
    """A server that knows the date of a file, but no tag of it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        request.send_header("Date", formatdate(now, usegmt=True))
        request.send_header("Last-Modified", formatdate(changed, usegmt=True))
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def test_a_pinned_source_that_is_unchanged_costs_no_bytes(
    workspace: Workspace, server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/things.zip"] = servers.whole(OLD)
    parameters = publish(workspace, server.address("/things.zip"), digest=sha256(OLD))
    download(workspace, parameters)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr("tasks.freshness.fetch", refuse)
    assert seen(workspace, parameters) == (False, "things.zip: pinned, unchanged")


def test_a_pinned_source_that_changed_is_named_with_old_and_new_digest(
    workspace: Workspace, server: servers.Server
) -> None:
    server.answers["/things.zip"] = servers.whole(OLD)
    parameters = publish(workspace, server.address("/things.zip"), digest=sha256(OLD))
    download(workspace, parameters)
    server.answers["/things.zip"] = servers.whole(NEW)  # of the same size
    with pytest.raises(ValueError, match="now has another file") as error:
        seen(workspace, parameters)
    assert f"sha256 was {sha256(OLD)['sha256']}, is {sha256(NEW)['sha256']}" in str(error.value)
    assert (workspace.folder("app", "download") / "things.zip").read_bytes() == OLD
    assert not list(workspace.state.glob(".look-*"))


@pytest.mark.parametrize("lost", ["no tag", "another tag", "no note"])
def test_bytes_decide_where_the_server_does_not(
    workspace: Workspace, server: servers.Server, lost: str
) -> None:
    server.answers["/things.zip"] = servers.whole(OLD, tag=lost != "no tag")
    parameters = publish(workspace, server.address("/things.zip"), digest=sha256(OLD))
    download(workspace, parameters)
    (note,) = (workspace.state / "downloads").glob("*.seen")
    if lost == "no note":
        note.unlink()
    elif lost == "another tag":
        note.write_text(json.dumps({**json.loads(note.read_text()), "validator": '"of yesterday"'}))
    assert seen(workspace, parameters) == (False, "things.zip: pinned, unchanged (its bytes were compared)")
    again = "" if lost != "no tag" else " (its bytes were compared)"
    assert seen(workspace, parameters) == (False, f"things.zip: pinned, unchanged{again}")


def test_a_digest_of_the_beginning_needs_the_beginning_only(
    workspace: Workspace, server: servers.Server
) -> None:
    def first(content: bytes) -> str:
        return hashlib.md5(content[:MIB], usedforsecurity=False).hexdigest()

    address = server.address("/things.zip")
    parameters = publish(workspace, address, digest={"md5_first_mib": first(OLD)}, bytes=len(OLD))
    server.answers["/things.zip"] = servers.whole(OLD, ranges=False)
    download(workspace, parameters)
    for note in (workspace.state / "downloads").glob("*.seen"):
        note.unlink()
    assert seen(workspace, parameters)[1].endswith("unchanged (its bytes were compared)")
    assert server.asked("/things.zip")[-1] == f"bytes=0-{MIB - 1}"
    server.answers["/things.zip"] = servers.whole(NEW, ranges=False)
    with pytest.raises(ValueError, match=f"md5_first_mib was {first(OLD)}, is {first(NEW)}"):
        seen(workspace, parameters)
    server.answers["/things.zip"] = servers.whole(OLD + b"more", ranges=False)
    with pytest.raises(ValueError, match=f"bytes was {len(OLD)}, is {len(OLD) + 4}"):
        seen(workspace, parameters)


def test_a_date_within_the_second_of_the_answer_proves_nothing() -> None:
    now, before = formatdate(100, usegmt=True), formatdate(99, usegmt=True)
    sure = [
        Version.of_answer(httpx.Response(200, headers={"Last-Modified": changed, "Date": now}), 1).sure
        for changed in (now, before, "yesterday")
    ]
    assert sure == [False, True, False]


def test_a_followed_source_is_fetched_anew_where_it_may_have_changed(
    workspace: Workspace, server: servers.Server
) -> None:
    server.answers["/things.zip"] = dated(OLD, changed=100, now=200)
    parameters = publish(workspace, server.address("/things.zip"), follow=True)
    assert seen(workspace, parameters, current=False)[0]
    download(workspace, parameters)
    assert seen(workspace, parameters) == (False, "things.zip: followed, unchanged")
    server.answers["/things.zip"] = dated(NEW, changed=150, now=200)
    assert seen(workspace, parameters) == (True, "things.zip: followed, fetched anew")
    download(workspace, parameters)
    assert (workspace.folder("app", "download") / "things.zip").read_bytes() == NEW
    assert not seen(workspace, parameters)[0]
    server.answers["/things.zip"] = servers.status(404)  # the fetch will say what is wrong
    assert seen(workspace, parameters)[0]


def test_a_place_that_does_not_answer_is_told_and_is_no_change(
    workspace: Workspace, server: servers.Server
) -> None:
    server.answers["/things.zip"] = servers.whole(OLD)
    parameters = publish(workspace, server.address("/things.zip"), digest=sha256(OLD))
    download(workspace, parameters)
    server.answers["/things.zip"] = servers.status(503)
    again, said = seen(workspace, parameters)
    assert not again
    assert said.startswith("things.zip: pinned, not compared: http://127.0.0.1")
    assert "503" in said


def test_a_mirror_that_changed_is_a_pinned_source_that_changed(workspace: Workspace, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()

    def hold(content: bytes) -> None:
        (mirror / "things.zip").write_bytes(content)
        entry = {"file": "things.zip", "bytes": len(content), "extent": "subset", **sha256(content)}
        (mirror / "MANIFEST.json").write_text(json.dumps({"datasets": [entry]}))

    hold(OLD)
    publish(workspace, "http://127.0.0.1:9/things.zip", digest=sha256(b"the whole"))
    parameters = applied("sources/things.yaml", mirror=str(mirror))
    download(workspace, parameters)
    assert seen(workspace, parameters) == (False, "things.zip: pinned, unchanged")
    os.utime(mirror / "things.zip", ns=(1, 1))
    assert seen(workspace, parameters)[1].endswith("(its bytes were compared)")
    hold(NEW)
    with pytest.raises(ValueError, match=f"sha256 was {sha256(OLD)['sha256']}, is {sha256(NEW)['sha256']}"):
        seen(workspace, parameters)


def test_what_is_drawn_or_ones_own_is_not_looked_at(workspace: Workspace) -> None:
    parameters = publish(workspace, "http://127.0.0.1:9/things.zip", digest=sha256(OLD))
    drawn = parameters.model_copy(update={"edition": "sample"})
    assert seen(workspace, drawn) == (False, "things: drawn, published nowhere")
    assert seen(workspace, applied("pictures")) == (False, "pictures: your own, DVC compares it")


def test_addresses_of_lists_are_always_fetched_anew(workspace: Workspace) -> None:
    (workspace.root / "lists").mkdir()
    (workspace.root / "lists" / "cats.csv").write_text("http://127.0.0.1:9/1.jpg\n")
    assert seen(workspace, applied("lists")) == (True, "lists: your own, its addresses are fetched anew")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "addresses need a digest .*, or follow: true"),
        ({"follow": True, "digest": sha256(OLD)}, "a digest pins the source and follow: true does not"),
        ({"follow": True, "kind": "weights"}, "follow: true needs addresses, and the kind archive"),
    ],
)
def test_a_source_is_pinned_or_followed(workspace: Workspace, facts: dict[str, Any], message: str) -> None:
    parameters = publish(workspace, "http://127.0.0.1:9/things.zip", **facts)
    with pytest.raises(ValueError, match=message):
        seen(workspace, parameters)
