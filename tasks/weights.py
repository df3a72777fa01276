"""Stage `weights@NAME`: published starting weights as safetensors, without unpickling code."""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.consent import require_consent
from tasks.download import bring, terms_of
from tasks.mirrors import find_copy
from tasks.parameters import DownloadBlock, Parameters, load_parameters, nearest
from tasks.sources import Source, load_source, sha256_of
from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:  # torch costs two seconds, and a copied safetensors file needs none
    from torch import Tensor


def fetch_weights(
    name: str, workspace: Workspace | None = None, *, parameters: Parameters | None = None
) -> Path:
    """Fetch the weights `name` of `params.yaml` by digest into `artifacts/weights/NAME`; returns that folder.

    It holds `weights.safetensors` (a state dict: name to tensor, dtypes as published) and `manifest.json`.
    ValueError where the name, source, digest or content is at fault, OSError where nothing could be fetched.
    """
    workspace = workspace or checkout()
    parameters = parameters or load_parameters(workspace.root / "params.yaml")
    source = source_of(name, parameters, workspace)
    folder = workspace.artifacts / "weights" / name
    with workspace.lock(f"weights@{name}", "weights"), workspace.writing(folder) as output:
        _write(source, output, parameters.mirror, workspace, name)
    return folder


def source_of(name: str, parameters: Parameters, workspace: Workspace) -> Source:
    """The source file of one entry below `weights`."""
    if name not in parameters.weights:
        raise ValueError(f"params.yaml has no weights {name!r}{nearest(name, parameters.weights)}")
    written = parameters.weights[name].source
    source = load_source(workspace.resolve(written))
    if source.kind != "weights":
        raise ValueError(f"weights.{name}.source: {written} is of kind {source.kind}, not weights")
    return source


def _write(source: Source, output: Path, mirror: str, workspace: Workspace, name: str) -> None:
    block = DownloadBlock()
    copy = find_copy(source, mirror, workspace.root, timeout=block.timeout) if mirror else None
    licence, restricted = terms_of(source, copy)
    if restricted:
        command = f"python -m flows consent {name}"
        require_consent(source.name, licence, command, workspace=workspace)
    with tempfile.TemporaryDirectory(dir=output, prefix=".published-") as aside:
        published, terms = bring(
            source, copy, Path(aside), root=workspace.root, downloads=workspace.state / "downloads",
            timeout=block.timeout, attempts=block.attempts,
        )  # fmt: skip
        record = {
            "name": published.name,
            "address": terms.address,
            "sha256": sha256_of(published),
            "bytes": published.stat().st_size,
        }
        tensors = _convert(published, output / "weights.safetensors")
    head = {field: value for field, value in vars(terms).items() if field != "address"}
    manifest = {**head, "tensors": tensors, "files": [record]}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (output / "manifest.json").write_text(text, encoding="utf-8")


def _convert(published: Path, target: Path) -> int:
    """Write the state dict as safetensors; returns the number of tensors. ValueError where it is none."""
    from safetensors import SafetensorError, safe_open

    if published.suffix == ".safetensors":
        try:
            with safe_open(published, framework="numpy") as file:
                count = len(file.keys())
        except SafetensorError as error:
            raise ValueError(f"{published.name} is no safetensors file: {error}") from None
        shutil.copyfile(published, target)
        return count
    from safetensors.torch import save_file

    state = _read_state(published)
    # safetensors refuses tensors that share memory, and keeps no strides
    save_file({key: value.detach().contiguous().clone() for key, value in state.items()}, target)
    return len(state)


def _read_state(published: Path) -> dict[str, "Tensor"]:
    import pickle

    import torch

    try:
        # files from before torch 1.6 are no zip and cannot be mapped
        state = torch.load(
            published, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(published)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{published.name} cannot be read as weights alone ({first}); nothing else is ever unpickled"
        ) from None
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{published.name} holds {type(state).__name__}, not a state dict of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{published.name}: entry {key!r} is {type(value).__name__}, not a tensor")
    return dict(state)
