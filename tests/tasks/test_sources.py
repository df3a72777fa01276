"""Every source file is sound, and a mistake in one is named."""

from pathlib import Path

import pytest
import yaml

from tasks.sources import Digest, check, load_source

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "sources").glob("*.yaml"))

GOOD = {
    "name": "things", "title": "Things", "kind": "archive", "file": "things.tgz",
    "addresses": ["https://example.org/things.tgz"], "bytes": 10, "digest": {"sha256": "0" * 64},
    "licence": "CC0", "non_commercial": False,
}  # fmt: skip


def written(folder: Path, **changes: object) -> Path:
    path = folder / "things.yaml"
    raw = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_source_of_the_project_is_sound(path: Path) -> None:
    source = load_source(path)
    assert source.licence
    assert source.title
    if source.kind == "weights":
        assert source.digest
        if source.digest.sha256_prefix:  # torchvision's, in the file's name
            assert f"-{source.digest.sha256_prefix}." in source.file
        assert source.addresses[0].endswith(source.file)
    else:
        assert source.generated
        assert source.generated["generator"]
    if source.addresses:
        assert source.bytes
        assert source.bytes > 10_000


def test_published_facts() -> None:
    """Sizes and digests as in the fact sheet of the course (0.3)."""
    pets = load_source(ROOT / "sources/oxford_iiit_pet.yaml")
    assert pets.addresses[0].endswith("/fast-ai-imageclas/oxford-iiit-pet.tgz")
    assert (pets.bytes, str(pets.digest)) == (811706944, "md5_first_mib e4db5c768afd933bb91f5f594d7417a4")
    asked = {path.stem for path in FILES if load_source(path).non_commercial}
    assert {"dogs_vs_cats", "camvid", "camvid_tiny", "carvana", "lsun_bedrooms"} <= asked


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licens": "CC0"}, "licens is no field; did you mean 'licence'"),
        ({"licence": None}, "licence is missing"),
        ({"kind": "archiv"}, "kind is 'archiv'; did you mean 'archive'"),
        ({"bytes": "ten"}, "bytes is 'ten'"),
        ({"digest": {"sha256": "xyz"}}, "digest.sha256 is 'xyz'"),
        ({"digest": {"sha": "0" * 64}}, "digest.sha is no field; did you mean 'sha256'"),
        ({"digest": {"sha256": "0" * 64, "md5_first_mib": "0" * 32}}, "digest: give one of"),
        ({"digest": None}, "addresses need a digest"),
        ({"digest": {"md5_first_mib": "0" * 32}, "bytes": None}, "bytes must be given as well"),
        ({"addresses": ["ftp://example.org/x"]}, "must begin with http://"),
        ({"addresses": []}, "an archive needs addresses, or generated"),
        ({"kind": "weights", "more": [{"file": "b.zip"}]}, "more has no effect on the kind weights"),
        ({"more": [{"file": "b/c.zip"}]}, "more.0.file is 'b/c.zip'"),
        ({"file": "../things.tgz"}, "file is '../things.tgz'"),
        ({"name": "thing"}, "name is 'thing', but must be the file's own, 'things'"),
    ],
)
def test_mistake_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r"things.yaml") as error:
        load_source(written(tmp_path, **changes))
    assert message in str(error.value)


def test_several_files_are_sources_on_the_same_terms(tmp_path: Path) -> None:
    more = [{"file": "masks.zip", "also": ["things/masks.zip"]}]
    source = load_source(written(tmp_path, addresses=[], digest=None, login="https://example.org", more=more))
    assert [each.file for each in source.files] == ["things.tgz", "masks.zip"]
    assert [each.login for each in source.files] == ["https://example.org"] * 2
    assert not source.drawn_only


def test_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'things'"):
        load_source(tmp_path / "thing.yaml")


def test_check_by_each_digest(datasets: Path) -> None:
    """The official MNIST sample passes every kind of digest, and fails a wrong one with both values named."""
    path = datasets / "mnist_sample.tgz"
    whole = "b373a14f282298aeba0f7dd56b7cdb6c2401063d4f118c39c54982907760bd38"
    for digest in (
        Digest(sha256=whole),
        Digest(sha256_prefix=whole[:8]),
        Digest(md5_first_mib="2dbc7ec6f9259b583af0072c55816a88"),
        Digest(md5="b0db05cc04c66c712f0a921defdf84a5"),
    ):
        assert check(path, path.name, digest, 3214948) == whole
    with pytest.raises(
        ValueError, match=f"mnist_sample.tgz .*sha256_prefix expected 00000000, got {whole[:8]}"
    ):
        check(path, path.name, Digest(sha256_prefix="00000000"), None)
    with pytest.raises(ValueError, match="bytes expected 3214949, got 3214948"):
        check(path, path.name, Digest(md5_first_mib="2dbc7ec6f9259b583af0072c55816a88"), 3214949)
