"""Archives are streamed in place, and refused by name where they cannot be trusted."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from data.archives import Limits, Raw
from tests.jobs import publish, raw_of, tar_of, zip_of

FILES = {"a/one.txt": b"one", "./a/two.txt": b"two" * 1000, "three.txt": b""}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tar", tar_of(FILES, mode="w")),
        ("x.tgz", tar_of(FILES, mode="w:gz")),
        ("x.tar.bz2", tar_of(FILES, mode="w:bz2")),
        ("x.tar.xz", tar_of(FILES, mode="w:xz")),
        ("x.zip", zip_of(FILES)),
        ("x.tgz", zip_of(FILES)),  # the content decides, not the ending
    ],
)
def test_every_kind_gives_the_same_members(tmp_path: Path, name: str, content: bytes) -> None:
    raw = raw_of(tmp_path, {name: content})
    members = [(member.name, member.size, member.read()) for member in raw.members()]
    assert members == [("a/one.txt", 3, b"one"), ("a/two.txt", 3000, b"two" * 1000), ("three.txt", 0, b"")]


def test_single_files_stand_beside_archives_in_the_manifests_order(tmp_path: Path) -> None:
    raw = raw_of(
        tmp_path, {"labels.csv": b"id,label\n", "x.zip": zip_of({"a.jpg": b"?"}), "digits.gz": b"\x1f\x8b"}
    )
    assert [member.name for member in raw.members()] == ["labels.csv", "a.jpg", "digits.gz"]


def test_system_files_and_directories_are_passed_over_and_counted(tmp_path: Path) -> None:
    files = {
        "a/one.jpg": b"1",
        "__MACOSX/a/._one.jpg": b"2",
        "a/.DS_Store": b"3",
        "Thumbs.db": b"4",
        "a/._x": b"5",
    }
    raw = raw_of(tmp_path, {"x.zip": zip_of(files)})
    for _ in range(2):  # counts start anew with each pass
        assert [member.name for member in raw.members()] == ["a/one.jpg"]
        assert raw.ignored == {"system files": 4}


def test_find_by_the_end_of_a_path(tmp_path: Path) -> None:
    raw = raw_of(
        tmp_path, {"x.tgz": tar_of({"d/labels.csv": b"1", "d/e/list.txt": b"2", "d/f/list.txt": b"3"})}
    )
    assert raw.find("labels.csv") == b"1"
    assert raw.find("e/list.txt") == b"2"
    with pytest.raises(ValueError, match=r"'list.txt' fits 'd/e/list.txt' and 'd/f/list.txt'"):
        raw.find("list.txt")
    with pytest.raises(ValueError, match=r"no file 'label.csv' in x.tgz; did you mean 'd/labels.csv'"):
        raw.find("label.csv")


def test_official_archives_are_read_to_the_last_member(datasets: Path, tmp_path: Path) -> None:
    names = ("oxford-iiit-pet.tgz", "dogscats.zip", "mnist_sample.tgz", "VOCtrainval_06-Nov-2007.tar")
    counts = {}
    for name in names:
        raw = raw_of(tmp_path / name, {name: datasets / name})
        counts[name] = sum(len(member.read()) == member.size for member in raw.members())
    assert counts == dict(zip(names, (320, 80, 14435, 155), strict=True))


# What is refused


def special(name: str, kind: bytes, *, target: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        tar.addfile(info)
    return buffer.getvalue()


def zip_entry(name: str, *, mode: int = 0, flag: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        file.writestr(info, b"target")
    content = bytearray(buffer.getvalue())
    central = content.find(b"PK\x01\x02")
    content[6] |= flag
    content[central + 8] |= flag
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tgz", tar_of({"../evil.txt": b""}), r"x.tgz: member '../evil.txt' leads out of the archive"),
        ("x.tgz", tar_of({"a/../../evil.txt": b""}), r"leads out of the archive by '..'"),
        ("x.zip", zip_of({"a/../../evil.txt": b""}), r"x.zip: member 'a/../../evil.txt' leads out"),
        ("x.zip", zip_of({"a\\..\\..\\evil.txt": b""}), r"leads out"),
        ("x.tgz", tar_of({"/etc/evil": b""}), r"'/etc/evil' has an absolute name"),
        ("x.zip", zip_of({"/etc/evil": b""}), r"'/etc/evil' has an absolute name"),
        ("x.zip", zip_of({"C:/evil": b""}), r"'C:/evil' has an absolute name"),
        (
            "x.tgz",
            special("s", tarfile.SYMTYPE, target="/etc/passwd"),
            r"'s' is a symbolic link to '/etc/passwd'",
        ),
        ("x.tgz", special("h", tarfile.LNKTYPE, target="a"), r"'h' is a hard link to 'a'"),
        ("x.tgz", special("p", tarfile.FIFOTYPE), r"'p' is a device or pipe"),
        ("x.tgz", special("c", tarfile.CHRTYPE), r"'c' is a device or pipe"),
        ("x.tgz", special("b", tarfile.BLKTYPE), r"'b' is a device or pipe"),
        ("x.zip", zip_entry("s", mode=0o120777), r"'s' is a symbolic link"),
        ("x.zip", zip_entry("p", mode=0o010644), r"'p' is a device or pipe"),
        ("x.zip", zip_entry("secret", flag=1), r"'secret' is encrypted"),
        ("x.rar", b"Rar!", r"x.rar: this kind of archive cannot be read; pack it as"),
    ],
)
def test_untrusted_members_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    raw = raw_of(tmp_path, {name: content})
    with pytest.raises(ValueError, match=message):
        list(raw.members())
    assert [path.name for path in tmp_path.iterdir() if path.name not in {name, "manifest.json"}] == []


def test_bombs_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    zeros = bytes(20 * 2**20)
    hidden = {"honest.bin": random.Random(0).randbytes(2**20), "bomb": zeros}
    for name, content in [
        ("x.zip", zip_of({"bomb": zeros})),
        ("x.tgz", tar_of({"bomb": zeros})),
        ("x.tgz", tar_of(hidden)),
        ("x.tar.bz2", tar_of(hidden, mode="w:bz2")),
        ("x.tar.xz", tar_of(hidden, mode="w:xz")),
    ]:
        raw = raw_of(tmp_path, {name: content})
        with pytest.raises(ValueError, match=rf"{name}: member 'bomb' .* looks like a decompression bomb"):
            list(raw.members())


def test_limits_on_a_member_and_on_the_whole(tmp_path: Path) -> None:
    for name, content in [("x.zip", zip_of({"big": b"x" * 101})), ("x.tgz", tar_of({"big": b"x" * 101}))]:
        publish(tmp_path, {name: content})
        with pytest.raises(ValueError, match=r"'big' has 101 bytes, above the limit of 100"):
            list(Raw(tmp_path, limits=Limits(member=100)).members())
        with pytest.raises(ValueError, match=r"brings the content to"):
            list(Raw(tmp_path, limits=Limits(total=100)).members())


def read_all(raw: Raw) -> list[bytes]:
    return [member.read() for member in raw.members()]


def noise(count: int) -> dict[str, bytes]:
    source = random.Random(1)
    return {f"{number}.bin": source.randbytes(3000) for number in range(count)}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_cut_anywhere_is_truncated(tmp_path: Path, mode: str) -> None:
    whole = tar_of(noise(8), mode=mode)
    last = 8 * (512 + 3072) if mode == "w" else len(whole)  # a plain tar is padded with zeros
    cuts = [0, 1, 300, last // 3, 4 * (512 + 3072), last - 1, last]  # also between two members
    for cut in cuts if mode == "w" else cuts[:-1]:
        raw = raw_of(tmp_path, {"x.tar": whole[:cut]})
        with pytest.raises(ValueError, match=r"x.tar is truncated or damaged"):
            read_all(raw)


def test_a_zip_cut_or_changed_is_damaged(tmp_path: Path) -> None:
    whole = zip_of(noise(8))
    changed = bytearray(whole)
    changed[5000] ^= 0xFF
    for content in (whole[: len(whole) // 2], whole[:-5], bytes(changed), b""):
        raw = raw_of(tmp_path, {"x.zip": content})
        with pytest.raises(ValueError, match=r"x.zip is truncated or damaged.*run the download stage again"):
            read_all(raw)


def test_a_changed_byte_in_a_compressed_tar_is_damage(tmp_path: Path) -> None:
    plain = tar_of(noise(8), mode="w")
    for name, pack in (("x.tgz", gzip.compress), ("x.tar.bz2", bz2.compress), ("x.tar.xz", lzma.compress)):
        changed = bytearray(pack(plain))
        changed[len(changed) // 2] ^= 0xFF
        raw = raw_of(tmp_path, {name: bytes(changed)})
        with pytest.raises(ValueError, match=rf"{name} is truncated or damaged"):
            read_all(raw)


def test_a_folder_without_manifest_or_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"manifest.json cannot be read .* run the download stage again"):
        Raw(tmp_path)
    publish(tmp_path, {"x.zip": zip_of(FILES)})
    (tmp_path / "x.zip").unlink()
    with pytest.raises(ValueError, match=r"x.zip is in the manifest but not there"):
        list(Raw(tmp_path).members())
