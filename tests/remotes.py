"""DVC remotes that several clones share: a folder, and S3 by its API."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
from moto.server import ThreadedMotoServer

from tests.stand_in import dvc


@contextlib.contextmanager
def bucket() -> Iterator[str]:
    """Address of a server that speaks S3, with a bucket; it has ended when the block has."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/practicum").raise_for_status()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def folder_remote(project: Path) -> None:
    """The folder `shelf` beside the project."""
    dvc(project, "remote", "add", "-q", "--default", "shelf", str(project.parent / "shelf"))


def s3_remote(project: Path, address: str) -> None:
    """The bucket of the server at `address`."""
    dvc(project, "remote", "add", "-q", "--default", "shelf", "s3://practicum/course")
    for key, value in {"endpointurl": address, "access_key_id": "k", "secret_access_key": "s"}.items():
        dvc(project, "remote", "modify", "-q", "shelf", key, value)
