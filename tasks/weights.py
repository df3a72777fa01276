"""Stage `weights@NAME`: published starting weights as safetensors, without unpickling code."""

import json
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.consent import require_consent
from tasks.download import bring, terms_of
from tasks.mirrors import find_copy
from tasks.parameters import DownloadBlock, Parameters, load_parameters, nearest
from tasks.pickled_lists import read_strings
from tasks.sources import Source, load_source, sha256_of
from tasks.workspace import Workspace, checkout

if TYPE_CHECKING:  # torch costs two seconds, and a copied safetensors file needs none
    from torch import Tensor


STATE_ENDINGS = frozenset({".pth", ".pt", ".safetensors"})
"""Files of an archive that hold a state dict."""


def fetch_weights(
    name: str, workspace: Workspace | None = None, *, parameters: Parameters | None = None
) -> Path:
    """Fetch the weights `name` of `params.yaml` by digest into `artifacts/weights/NAME`; returns that folder.

    It holds `weights.safetensors` (a state dict: name to tensor, dtypes as published) and `manifest.json`; of
    an archive with a language model also `facts.json` with its `vocabulary`.
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
        tensors = _convert(published, output)
    head = {field: value for field, value in vars(terms).items() if field != "address"}
    manifest = {**head, "tensors": tensors, "files": [record]}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (output / "manifest.json").write_text(text, encoding="utf-8")


def _convert(published: Path, output: Path) -> int:
    """Write the state dict as safetensors; returns the number of tensors. ValueError where it is none."""
    from safetensors import SafetensorError, safe_open

    target = output / "weights.safetensors"
    if tarfile.is_tarfile(published):  # a zip may be a state dict itself: torch packs them so
        published = _unpacked(published, output)

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


def _unpacked(published: Path, output: Path) -> Path:
    """The state dict out of an archive, in its folder; its vocabulary goes to `facts.json` in `output`.

    fastai's archives of language models hold `lstm_fwd.pth` and `itos_wt103.pkl`, a pickled list of tokens.
    """
    states: list[Path] = []
    try:
        with tarfile.open(published) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or name.name.startswith("."):
                    continue
                if name.suffix in STATE_ENDINGS:
                    states.append(published.parent / f"state-{len(states)}{name.suffix}")
                    with states[-1].open("wb") as file:
                        shutil.copyfileobj(stream, file)
                elif name.suffix == ".pkl":
                    facts = {"vocabulary": read_strings(stream.read(), name=member.name)}
                    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
                    (output / "facts.json").write_text(text, encoding="utf-8")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{published.name} is truncated or damaged ({error}); fetch it again") from None
    if len(states) != 1:
        found = f"{len(states)} files of weights" if states else "no file of weights"
        endings = ", ".join(sorted(STATE_ENDINGS))
        raise ValueError(f"{published.name} holds {found} ({endings}); one is wanted")
    return states[0]


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
