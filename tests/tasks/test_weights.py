"""Starting weights: by digest, without unpickling code, as safetensors."""

import hashlib
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tasks.parameters import Parameters, StartingWeights
from tasks.pickled_lists import read_strings
from tasks.weights import fetch_weights
from tasks.workspace import checkout
from tests import servers
from tests.jobs import tar_of


def project(
    root: Path, name: str, addresses: list[str], content: bytes, *, file: str, mirror: str = ""
) -> Parameters:
    """A root whose `params.yaml` would name one source of weights."""
    (root / "sources").mkdir(parents=True, exist_ok=True)
    raw = {
        "name": name, "title": "A small network", "kind": "weights", "file": file, "addresses": addresses,
        "digest": {"sha256_prefix": hashlib.sha256(content).hexdigest()[:8]}, "licence": "BSD-3-Clause",
        "non_commercial": False,
    }  # fmt: skip
    (root / f"sources/{name}.yaml").write_text(yaml.safe_dump(raw))
    weights = {name: StartingWeights(source=f"sources/{name}.yaml")}
    return Parameters(edition="full", mirror=mirror, weights=weights, applications={})


def state_dict() -> dict[str, torch.Tensor]:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    return dict(network.state_dict())


def saved(value: Any, path: Path, *, zipped: bool = True) -> bytes:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_published_state_dict_becomes_safetensors(
    tmp_path: Path, server: servers.Server, zipped: bool
) -> None:
    """Both of torch's file formats; tensors that share memory come out apart."""
    state = state_dict()
    state["tied"] = state["0.weight"]
    content = saved(state, tmp_path / "published.pth", zipped=zipped)
    server.answers["/small.pth"] = servers.whole(content)
    root = tmp_path / "root"
    parameters = project(root, "small", [server.address("/small.pth")], content, file="small.pth")
    folder = fetch_weights("small", checkout(root), parameters=parameters)
    assert folder == root / "artifacts/weights/small"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights.safetensors"]
    loaded = load_file(folder / "weights.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["tensors"] == len(state)
    first = (folder / "weights.safetensors").read_bytes()
    fetch_weights("small", checkout(root), parameters=parameters)
    assert (folder / "weights.safetensors").read_bytes() == first


def test_real_safetensors_from_a_mirror(tmp_path: Path, imagenet_weights: Path) -> None:
    """A published safetensors file is copied as it is; the manifest names its extent."""
    root, mirror = tmp_path / "root", tmp_path / "mirror"
    mirror.mkdir()
    content = imagenet_weights.read_bytes()
    (mirror / imagenet_weights.name).write_bytes(content)
    entry = {
        "file": imagenet_weights.name, "official_file": "squeezenet1_0-b66bff10.pth", "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "extent": "stand-in: weights of another training",
    }  # fmt: skip
    (mirror / "MANIFEST.json").write_text(json.dumps({"datasets": [entry]}))
    parameters = project(
        root,
        "squeezenet1_0",
        ["http://127.0.0.1:9/x.pth"],
        b"",
        file="squeezenet1_0-b66bff10.pth",
        mirror="../mirror",
    )
    folder = fetch_weights("squeezenet1_0", checkout(root), parameters=parameters)
    assert (folder / "weights.safetensors").read_bytes() == content
    assert load_file(folder / "weights.safetensors")["features.0.weight"].shape == (96, 3, 7, 7)
    assert json.loads((folder / "manifest.json").read_text())["extent"] == "stand-in"


class Evil:
    """Would write a file if anyone unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path, server: servers.Server) -> None:
    root, trap = tmp_path / "root", tmp_path / "trap"
    content = saved({"weight": Evil(trap)}, tmp_path / "evil.pth")
    for content_, file in ((content, "evil.pth"), (pickle.dumps(Evil(trap)), "plain.pth")):
        server.answers[f"/{file}"] = servers.whole(content_)
        parameters = project(root, "evil", [server.address(f"/{file}")], content_, file=file)
        with pytest.raises(ValueError, match=f"{file} cannot be read as weights alone"):
            fetch_weights("evil", checkout(root), parameters=parameters)
    assert not trap.exists()
    assert not (root / "artifacts/weights/evil").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [({"a": 1}, "entry 'a' is int, not a tensor"), ([1.0], "holds list, not a state dict")],
)
def test_no_state_dict(tmp_path: Path, server: servers.Server, value: Any, message: str) -> None:
    content = saved(value, tmp_path / "x.pth")
    server.answers["/x.pth"] = servers.whole(content)
    parameters = project(tmp_path / "root", "x", [server.address("/x.pth")], content, file="x.pth")
    with pytest.raises(ValueError, match=message):
        fetch_weights("x", checkout(tmp_path / "root"), parameters=parameters)


def test_wrong_digest_and_unknown_name(tmp_path: Path, server: servers.Server) -> None:
    save_file(state_dict(), tmp_path / "x.safetensors")
    server.answers["/x.safetensors"] = servers.whole((tmp_path / "x.safetensors").read_bytes())
    address = server.address("/x.safetensors")
    parameters = project(tmp_path / "root", "small", [address], b"another", file="x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors is not the published file: sha256_prefix expected"):
        fetch_weights("small", checkout(tmp_path / "root"), parameters=parameters)
    with pytest.raises(ValueError, match="no weights 'smal'; did you mean 'small'"):
        fetch_weights("smal", checkout(tmp_path / "root"), parameters=parameters)


def test_second_fetch_at_once_is_refused(tmp_path: Path, server: servers.Server) -> None:
    """While one waits for a slow server, another is told who works on the weights."""
    asked = threading.Event()
    slow = servers.silence(server)

    def answer(request: Any) -> None:
        asked.set()
        slow(request)

    server.answers["/x.pth"] = answer
    root = tmp_path / "root"
    parameters = project(root, "small", [server.address("/x.pth")], b"", file="x.pth")

    def first() -> None:
        with pytest.raises(OSError, match="could not be fetched"):
            fetch_weights("small", checkout(root), parameters=parameters)

    thread = threading.Thread(target=first)
    thread.start()
    assert asked.wait(10)
    with pytest.raises(ValueError, match="weights@small is being worked on by process"):
        fetch_weights("small", checkout(root), parameters=parameters)
    server.answers["/x.pth"] = servers.status(404)
    server.released.set()
    thread.join()


def language_model(tokens: int, *, embedding: int = 6, hidden: int = 8) -> dict[str, torch.Tensor]:
    """A state dict under the names of fastai's WikiText-103 networks, with all its repetitions."""
    torch.manual_seed(1)
    table = torch.randn(tokens, embedding)
    state = {"0.encoder.weight": table, "0.encoder_dp.emb.weight": table}
    for layer, (inputs, width) in enumerate([(embedding, hidden), (hidden, embedding)]):
        recurrent = torch.randn(4 * width, width)
        state |= {
            f"0.rnns.{layer}.weight_hh_l0_raw": recurrent,
            f"0.rnns.{layer}.module.weight_ih_l0": torch.randn(4 * width, inputs),
            f"0.rnns.{layer}.module.weight_hh_l0": recurrent * 0,  # as the last dropout left it
            f"0.rnns.{layer}.module.bias_ih_l0": torch.randn(4 * width),
            f"0.rnns.{layer}.module.bias_hh_l0": torch.randn(4 * width),
        }
    return state | {"1.decoder.weight": table, "1.decoder.bias": torch.randn(tokens)}


TOKENS = ["xxunk", "xxpad", "the", "film", "näive", "xxunk"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_published_language_model_comes_with_its_vocabulary(
    tmp_path: Path, server: servers.Server, protocol: int
) -> None:
    weights = saved(language_model(len(TOKENS)), tmp_path / "lstm_fwd.pth", zipped=False)
    files = {
        "wt103-fwd/lstm_fwd.pth": weights, "wt103-fwd/itos_wt103.pkl": pickle.dumps(TOKENS, protocol=protocol)
    }  # fmt: skip
    content = tar_of(files)
    server.answers["/wt103-fwd.tgz"] = servers.whole(content)
    root = tmp_path / "root"
    address = server.address("/wt103-fwd.tgz")
    parameters = project(root, "wt103_fwd", [address], content, file="wt103-fwd.tgz")
    folder = fetch_weights("wt103_fwd", checkout(root), parameters=parameters)
    assert sorted(path.name for path in folder.iterdir()) == [
        "facts.json", "manifest.json", "weights.safetensors",
    ]  # fmt: skip
    assert json.loads((folder / "facts.json").read_text()) == {"vocabulary": TOKENS}
    assert load_file(folder / "weights.safetensors").keys() == language_model(6).keys()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Evil(Path("never")), "it holds the operation"),
        (["a", Evil(Path("never"))], "it holds the operation"),
        (["a", 1], "it holds the operation BININT1"),
        ({"a": "b"}, "it holds the operation EMPTY_DICT"),
        ([["a"]], "it holds list"),
        ("a", "no pickled list of strings"),
    ],
    ids=["code", "code in a list", "number", "dict", "nested", "string"],
)
def test_a_vocabulary_is_a_list_of_strings_and_nothing_else(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_strings(pickle.dumps(value), name="itos.pkl")


def test_a_damaged_vocabulary_is_no_list() -> None:
    with pytest.raises(ValueError, match=r"itos.pkl is no pickled list"):
        read_strings(pickle.dumps(TOKENS)[:-8], name="itos.pkl")


def test_an_archive_without_weights(tmp_path: Path, server: servers.Server) -> None:
    content = tar_of({"wt103-fwd/itos_wt103.pkl": pickle.dumps(TOKENS)})
    server.answers["/x.tgz"] = servers.whole(content)
    parameters = project(tmp_path / "root", "x", [server.address("/x.tgz")], content, file="x.tgz")
    with pytest.raises(ValueError, match=r"x.tgz holds no file of weights"):
        fetch_weights("x", checkout(tmp_path / "root"), parameters=parameters)
