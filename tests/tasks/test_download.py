"""Stage `download` with the real files, a real server, and data of the user's own."""

import csv
import hashlib
import io
import json
import random
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tasks import download
from tasks.consent import record_consent
from tasks.parameters import Application, DownloadBlock, Parameters
from tasks.pipeline import STAGE_NAMES, Job, Receipt, find_stage, run_stage
from tasks.url_lists import STATUSES, read_lists
from tasks.workspace import checkout
from tests import servers

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "http://127.0.0.1:9/"  # the discard port: nothing listens


def run(
    root: Path, source: str, *, edition: str = "full", mirror: str = "", app: str = "app", **block: Any
) -> tuple[Path, Receipt]:
    """The stage as `run_stage` calls it, below a root of its own; returns the finished folder."""
    workspace = checkout(root)
    settings = DownloadBlock(**{"attempts": 2, "timeout": 2.0, **block})
    entry = Application(
        recipe="none", family="none", source=source, download=settings,
        corrections="sources/none", starts_from="sources/none", judge="sources/none",
        clean=None, split={}, fine_tune=None, evaluate=None, export=None,
    )  # fmt: skip
    parameters = Parameters(edition=edition, mirror=mirror, applications={})
    folder = workspace.folder(app, "download")
    with workspace.writing(folder) as output:
        receipt = download.run(
            Job(
                stage=find_stage("download"),
                application=app,
                entry=entry,
                recipe=None,  # type: ignore[arg-type]
                parameters=parameters,
                workspace=workspace,
                output=output,
                door="command",
            )
        )
    return folder, receipt


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def source_file(root: Path, name: str = "things", **changes: Any) -> str:
    """Write a source file of our own; returns its path as an entry has it."""
    raw = {
        "name": name, "title": "Things", "kind": "archive", "file": "things.tgz", "addresses": [],
        "bytes": 10,
        "licence": "CC0", "non_commercial": False, **changes,
    }  # fmt: skip
    (root / "sources").mkdir(exist_ok=True)
    (root / "sources" / f"{name}.yaml").write_text(yaml.safe_dump(raw))
    return f"sources/{name}.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the project's own source files."""
    shutil.copytree(ROOT / "sources", tmp_path / "root" / "sources")
    return tmp_path / "root"


REAL = {
    "oxford_iiit_pet": ("oxford-iiit-pet.tgz", "subset"),
    "dogs_vs_cats": ("dogscats.zip", "stand-in"),
    "mnist": ("mnist_png.tgz", "subset"),
    "mnist_3_7": ("mnist_sample.tgz", "whole"),
    "cifar10": ("cifar10.tgz", "subset"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_through_the_mirror(root: Path, datasets: Path, name: str) -> None:
    file, extent = REAL[name]
    folder, receipt = run(root, f"sources/{name}.yaml", mirror=str(datasets))
    manifest = manifest_of(folder)
    assert (folder / file).read_bytes() == (datasets / file).read_bytes()
    assert (manifest["source"], manifest["extent"]) == (name, extent)
    (entry,) = manifest["files"]
    assert entry["name"] == file
    assert entry["sha256"] == hashlib.sha256((datasets / file).read_bytes()).hexdigest()
    assert entry["address"].startswith("https://s3.amazonaws.com/")
    assert str(datasets) not in (folder / "manifest.json").read_text()
    assert bool(manifest["extent_note"]) is (extent != "whole")
    assert receipt.bytes == (datasets / file).stat().st_size
    assert not list((root / ".practicum/downloads").glob("*.part"))


def test_several_files_lie_side_by_side(root: Path, datasets: Path) -> None:
    folder, receipt = run(root, "sources/carvana.yaml", mirror=str(datasets))
    names = ["train.zip", "train_masks.csv.zip", "train_masks.zip"]
    assert [file["name"] for file in manifest_of(folder)["files"]] == names
    for name in names:
        assert (folder / name).read_bytes() == (datasets / "carvana" / name).read_bytes()
    assert manifest_of(folder)["extent"] == "stand-in"
    assert receipt.bytes == sum((datasets / "carvana" / name).stat().st_size for name in names)


def test_what_is_behind_a_login_is_said_before_anything_is_fetched(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"only behind a login \(https://www.kaggle.com.*unpacked files"
    ) as error:
        run(root, "sources/carvana.yaml")
    assert "train.zip" in str(error.value)


def test_mirror_as_address_gives_the_same_bytes(root: Path, datasets: Path, server: servers.Server) -> None:
    for name in ("MANIFEST.json", "mnist_sample.tgz"):
        server.answers[f"/{name}"] = servers.whole((datasets / name).read_bytes())
    places = (str(datasets), datasets.as_uri(), server.address("/"))
    results = [
        files_of(run(root, "sources/mnist_3_7.yaml", mirror=place, app=f"app{number}")[0])
        for number, place in enumerate(places)
    ]
    assert results[0] == results[1] == results[2]


def test_mirror_that_lacks_its_own_file_falls_back_to_the_published(
    root: Path, tmp_path: Path, datasets: Path, server: servers.Server
) -> None:
    """The manifest names the published digest, but the file is gone: the published address serves as well."""
    content = (datasets / "mnist_sample.tgz").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    server.answers["/mnist_sample.tgz"] = servers.whole(content)
    source = source_file(
        root, file="mnist_sample.tgz", addresses=[server.address("/mnist_sample.tgz")], bytes=len(content),
        digest={"sha256": digest},
    )  # fmt: skip
    entry = {"file": "mnist_sample.tgz", "bytes": len(content), "sha256": digest, "extent": "whole"}
    write_mirror(tmp_path / "mirror", entry)
    folder, _ = run(root, source, mirror="../mirror")
    assert manifest_of(folder)["extent"] == "whole"


def write_mirror(folder: Path, *entries: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "MANIFEST.json").write_text(json.dumps({"datasets": entries}))


def test_mirror_with_a_damaged_file(root: Path, datasets: Path, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    shutil.copy(datasets / "MANIFEST.json", tmp_path / "mirror")
    content = bytearray((datasets / "oxford-iiit-pet.tgz").read_bytes())
    content[5_000_000] ^= 1
    (tmp_path / "mirror" / "oxford-iiit-pet.tgz").write_bytes(content)
    run(root, "sources/oxford_iiit_pet.yaml", mirror=str(datasets))
    before = files_of(root / "artifacts/app/download")
    with pytest.raises(
        ValueError, match=r"oxford-iiit-pet.tgz is not the published file: sha256 expected 7ce13599"
    ):
        run(root, "sources/oxford_iiit_pet.yaml", mirror="../mirror")
    assert files_of(root / "artifacts/app/download") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read its MANIFEST.json"),
        ("{", "MANIFEST.json is malformed"),
        ('{"datasets": [{"file": "x.tgz"}]}', "MANIFEST.json is malformed"),
    ],
)
def test_bad_mirror(root: Path, tmp_path: Path, text: str | None, message: str) -> None:
    (tmp_path / "mirror").mkdir()
    if text is not None:
        (tmp_path / "mirror/MANIFEST.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        run(root, "sources/mnist.yaml", mirror="../mirror")


def test_mirror_whose_names_lead_out_of_it(root: Path, tmp_path: Path) -> None:
    entry = {"file": "../mnist_png.tgz", "bytes": 1, "sha256": "0" * 64, "extent": "whole"}
    write_mirror(tmp_path / "mirror", entry)
    with pytest.raises(ValueError, match="leads out of the mirror"):
        run(root, "sources/mnist.yaml", mirror="../mirror")


def test_environment_may_only_move_the_published_bytes(
    root: Path, datasets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample of MNIST is the official file; the pets of the same folder are not, and are refused."""
    monkeypatch.setenv("PRACTICUM_MIRROR", str(datasets))
    folder, _ = run(root, "sources/mnist_3_7.yaml", app="moved")
    assert manifest_of(folder)["extent"] == "whole"
    path = root / "sources/oxford_iiit_pet.yaml"
    raw = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**raw, "addresses": [NOBODY]}))
    with pytest.raises(ValueError, match=r"pet.tgz is not the published file: bytes expected 811706944"):
        run(root, "sources/oxford_iiit_pet.yaml", attempts=1)
    assert not (root / "artifacts/app/download").exists()
    monkeypatch.setenv("PRACTICUM_MIRROR", "/no/such/folder")
    with pytest.raises(ValueError, match="PRACTICUM_MIRROR names the folder"):
        run(root, "sources/oxford_iiit_pet.yaml", attempts=1)


def test_consent_is_asked_for_once(
    root: Path, server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"restricted" * 1000
    server.answers["/things.tgz"] = servers.whole(content)
    source = source_file(
        root, addresses=[server.address("/things.tgz")],
        digest={"sha256": hashlib.sha256(content).hexdigest()},
        licence="for research only", non_commercial=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"for research only.*\n.*python -m flows consent app"):
        run(root, source)
    assert not server.requests
    path = record_consent("things", "for research only", workspace=checkout(root))
    assert path == root / ".practicum/consent.json"
    record = json.loads(path.read_text())["things"]
    assert record["licence"] == "for research only"
    assert record["date"].startswith("20")
    folder, _ = run(root, source)
    assert manifest_of(folder)["non_commercial"] is True
    record_consent("things", "other terms", workspace=checkout(root))
    with pytest.raises(ValueError, match="consent"):
        run(root, source, app="again")
    monkeypatch.setenv("PRACTICUM_CONSENT", "others, things")
    run(root, source, app="unattended")


def test_published_edition_of_dogs_and_cats_asks(root: Path) -> None:
    with pytest.raises(ValueError, match="Kaggle"):
        run(root, "sources/dogs_vs_cats.yaml")


# --- lists of addresses -------------------------------------------------------------------------------------


Bears = tuple[Path, dict[str, list[str]]]


def picture(seed: int = 0, kind: str = "JPEG") -> bytes:
    image = Image.frombytes("RGB", (64, 48), random.Random(seed).randbytes(64 * 48 * 3))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.fixture
def bears(tmp_path: Path, server: servers.Server) -> tuple[Path, dict[str, list[str]]]:
    """Two lists as lesson 2 makes them, and a server that gives some pictures and fails at others."""
    for number in range(6):
        server.answers[f"/{number}.jpg"] = servers.whole(picture(number), pause=0.05 * (6 - number))
    server.answers["/fine.png"] = servers.whole(picture(9, "PNG"))
    server.answers["/busy.jpg"] = servers.status(503, times=1, then=servers.whole(picture(11)))
    server.answers["/breaks.jpg"] = servers.breaking(picture(12), 500, times=1)
    server.answers["/moved.jpg"] = servers.redirect("/0.jpg")
    server.answers["/html.jpg"] = servers.page()
    server.answers["/text.jpg"] = servers.page("just text")
    server.answers["/cut.jpg"] = servers.whole(picture(10)[:1500])
    server.answers["/silent.jpg"] = servers.silence(server)
    server.answers["/slow.jpg"] = servers.trickle(server, picture(10))
    server.answers["/slowhead.jpg"] = servers.trickle(server, b"", in_head=True)
    server.answers["/loop.jpg"] = servers.redirect("/loop.jpg")
    server.answers["/down.jpg"] = servers.status(500)
    server.answers["/huge.jpg"] = servers.whole(bytes(33 * 2**20))
    server.answers["/empty.jpg"] = servers.whole(b"")
    lists = {
        "black": ["", *(server.address(f"/{number}.jpg") for number in range(6)), "",
                  server.address("/cut.jpg"),
                  server.address("/busy.jpg"), server.address("/breaks.jpg"), server.address("/moved.jpg")],
        "teddy": [server.address(f"/{name}.jpg") for name in (
            "gone", "html", "text", "silent", "slow", "slowhead", "loop", "down", "huge", "empty")]
                 + [server.address("/fine.png"), NOBODY, "file:///etc/passwd", "not an address", "http://"],
    }  # fmt: skip
    folder = tmp_path / "root" / "lists"
    folder.mkdir(parents=True)
    for label, lines in lists.items():
        (folder / f"urls_{label}.csv").write_text("\n".join(lines) + "\n")
    return folder, lists


def zipped(folder: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"bears/{path.name}")
    return file.getvalue()


EXPECTED = {
    "gone": ("http error", "404 Not Found"), "html": ("not an image", "HTML"),
    "text": ("not an image", "unknown content"), "silent": ("time limit", "no whole answer in 4 s"),
    "slow": ("time limit", "no whole answer in 4 s"), "slowhead": ("time limit", "no whole answer in 4 s"),
    "loop": ("redirect loop", "more than 5 redirects"), "down": ("http error", "500 Internal Server Error"),
    "huge": ("too large", "more than 33554432 bytes"), "empty": ("empty answer", ""),
    "cut": ("truncated image", "the picture ends early or is damaged"),
}  # fmt: skip


def test_every_failure_is_a_row(root: Path, bears: Bears, server: servers.Server) -> None:
    """Through a mirror, as a published list would come: 25 addresses, every failure named."""
    folder, lists = bears
    content = zipped(folder)
    shutil.rmtree(folder)
    (root / "mirror").mkdir()
    (root / "mirror/bears-urls.zip").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    write_mirror(
        root / "mirror",
        {"file": "bears-urls.zip", "bytes": len(content), "sha256": digest, "extent": "whole"},
    )
    output, receipt = run(root, "sources/bears.yaml", mirror="mirror", timeout=4.0)
    with (output / "record.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["address"] for row in rows] == [line for each in lists.values() for line in each if line]
    found = {
        Path(row["address"]).stem: (row["status"], row["detail"]) for row in rows if row["status"] != "ok"
    }
    for name, expected in EXPECTED.items():
        assert found.pop(name) == expected, name
    said = {row["address"]: (row["status"], row["detail"]) for row in rows}
    assert said[NOBODY] == ("no connection", "refused")
    assert said["file:///etc/passwd"][0] == said["not an address"][0] == said["http://"][0] == "no address"
    assert {row["status"] for row in rows} == set(STATUSES)
    with tarfile.open(output / "images.tar") as tar:
        stored = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    good = [row for row in rows if row["status"] == "ok"]
    assert [row["name"] for row in good] == list(stored)
    assert list(stored)[:6] == [f"black/0000000{number}.jpg" for number in range(1, 7)]
    assert "teddy/00000011.png" in stored
    assert stored["black/00000001.jpg"] == picture(0)
    assert stored["black/00000010.jpg"] == picture(0)  # moved.jpg
    for row in good:
        assert hashlib.sha256(stored[row["name"]]).hexdigest() == row["sha256"]
    manifest = manifest_of(output)
    assert [file["name"] for file in manifest["files"]] == ["images.tar", "record.csv"]
    assert manifest["lists"][0] == {"class": "black", "addresses": 10, "blank_lines": 2}
    assert receipt.rows == len(rows)
    assert len(server.asked("/silent.jpg")) == 1


def test_same_answers_give_the_same_bytes(root: Path, bears: Bears) -> None:
    """A folder of lists is a source of one's own; two runs with different timing agree."""
    first, _ = run(root, "lists", app="first", timeout=4.0, workers=8)
    second, _ = run(root, "lists", app="second", timeout=4.0, workers=12)
    assert files_of(first) == files_of(second)
    assert manifest_of(first)["extent"] == "own"
    assert str(root) not in (first / "manifest.json").read_text()


def test_addresses_are_fetched_at_once(root: Path, server: servers.Server) -> None:
    """Each of two is answered only after both were asked for."""
    both = threading.Barrier(2)
    (root / "lists").mkdir()
    for number in range(2):
        server.answers[f"/{number}.jpg"] = servers.together(both, servers.whole(picture(number)))
    (root / "lists/grizzly.txt").write_text(
        "".join(server.address(f"/{number}.jpg\n") for number in range(2))
    )
    output, _ = run(root, "lists", timeout=30.0)
    with (output / "record.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "ok"]


def test_limit_per_class(root: Path, bears: Bears) -> None:
    _, receipt = run(root, "lists", limit_per_class=2)
    assert receipt.rows == 4


def test_no_picture_at_all(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists/grizzly.txt").write_text(f"{NOBODY}a.jpg\n{NOBODY}b.jpg\n")
    with pytest.raises(OSError, match=r"none of 2 addresses gave a picture \(no connection 2\)"):
        run(root, "lists")
    assert (root / ".practicum/logs/app-record.csv").read_text().count("refused") == 2
    assert not (root / "artifacts/app/download").exists()


def test_bears_are_published_nowhere(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"bears is published nowhere; set `mirror`.*applications.app.source"
    ):
        run(root, "sources/bears.yaml")


def test_real_lists_parse(datasets: Path) -> None:
    lists = read_lists(datasets / "bears-urls.zip")
    assert [each.label for each in lists] == ["black", "grizzly", "panda", "polar", "teddy"]
    assert {(len(each.addresses), each.blank_lines) for each in lists} == {(80, 20)}
    assert all(address.startswith("http") for each in lists for address in each.addresses)


# --- one's own data -----------------------------------------------------------------------------------------


def test_own_folder_is_one_deterministic_tar(root: Path) -> None:
    for name in ("rose/b.jpg", "rose/a.jpg", "tulip/ü.jpg", ".hidden/x.jpg", "Thumbs.db"):
        path = root / "flowers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (root / "flowers/loop").symlink_to(root / "flowers")
    folder, receipt = run(root, "flowers")
    with tarfile.open(folder / "files.tar") as tar:
        assert tar.getnames() == ["rose/a.jpg", "rose/b.jpg", "tulip/ü.jpg"]
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
    manifest = manifest_of(folder)
    assert (manifest["extent"], manifest["files"][0]["address"]) == ("own", "flowers")
    before = files_of(folder)
    (root / "flowers/rose/a.jpg").touch()
    assert run(root, "flowers", edition="sample")[1].digest == receipt.digest
    assert files_of(folder) == before


def test_own_archive_is_copied(root: Path, datasets: Path) -> None:
    folder, _ = run(root, str(datasets / "mnist_tiny.tgz"))
    assert (folder / "mnist_tiny.tgz").read_bytes() == (datasets / "mnist_tiny.tgz").read_bytes()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("flower", "flower does not exist; did you mean 'flowers'"),
        ("no/such/folder", "does not exist"),
        ("empty", "the source folder empty holds no file"),
        ("hollow", "the source folder hollow holds no file"),
        ("zero.zip", "zero.zip is empty"),
        (".", "holds the project's own artifacts"),
        ("sources/mnst.yaml", "did you mean 'mnist'"),
        ("sources/resnet18.yaml", "is of kind weights"),
    ],
)
def test_bad_source_is_named(root: Path, source: str, message: str) -> None:
    for name in ("flowers", "empty", "hollow/below"):
        (root / name).mkdir(parents=True)
    (root / "zero.zip").touch()
    with pytest.raises(ValueError, match=message):
        run(root, source)
    assert not (root / "artifacts/app/download").exists()


def test_through_the_one_way_that_stages_run(root: Path, datasets: Path) -> None:
    """`run_stage` with a `params.yaml`: the folder, and a receipt outside of what DVC tracks."""
    blocks: dict[str, Any] = {stage: {} for stage in STAGE_NAMES}
    entry = {
        "recipe": "image_classification",
        "family": "vision",
        "source": "sources/mnist_3_7.yaml",
        "corrections": "sources/none",
        "starts_from": "sources/none",
        "judge": "sources/none",
        **blocks,
    }
    parameters = {"edition": "full", "mirror": str(datasets), "applications": {"digits": entry}}
    (root / "params.yaml").write_text(yaml.safe_dump(parameters))
    receipt = run_stage("download", "digits", workspace=checkout(root))
    assert receipt.bytes == 3214948
    assert sorted(files_of(root / "artifacts/digits/download")) == ["manifest.json", "mnist_sample.tgz"]
    record = json.loads((root / ".practicum/receipts/digits/download.json").read_text())
    assert record["numbers"] == {"extent": "whole"}


def test_failed_download_leaves_what_stood_before(root: Path) -> None:
    (root / "flowers").mkdir()
    (root / "flowers/a.jpg").write_bytes(b"a")
    folder, _ = run(root, "flowers")
    before = files_of(folder)
    shutil.rmtree(root / "flowers")
    with pytest.raises(ValueError, match="does not exist"):
        run(root, "flowers")
    assert files_of(folder) == before
