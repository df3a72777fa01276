"""Files and folders in, a table out; what does not fit is named, and nothing at all is an error."""

import base64
import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.predict import predict, without_bytes
from tasks.workspace import Workspace, checkout
from tests import colours


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return colours.finished(tmp_path_factory.mktemp("exported"))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """The pictures as files in folders, as their item ids say."""
    for name, encoded in colours.pictures().items():
        path = tmp_path / "photographs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return tmp_path / "photographs"


def test_a_folder_is_answered_as_evaluate_did(exported: Workspace, photographs: Path) -> None:
    table = predict("colours", [photographs], exported)
    predictions = pq.read_table(exported.folder("colours", "evaluate") / "predictions.parquet").to_pandas()
    expected = predictions.set_index(predictions["item_id"].map(lambda item: str(photographs / item)))
    expected = expected.loc[table["file"]]
    assert len(table) == 12
    assert table.columns.to_list() == ["file", "label", "probability", "probabilities"]
    assert table["label"].to_list() == expected["predicted"].to_list()
    assert table["probability"].to_list() == pytest.approx(expected["probability"].to_list(), abs=1e-6)


def test_named_files_come_first_and_none_twice(exported: Workspace, photographs: Path) -> None:
    last = photographs / "test1" / "12.jpg"
    table = predict("colours", [last, photographs], exported)
    assert table["file"][0] == str(last)
    assert len(table) == 12


def test_what_does_not_fit_is_named_and_the_rest_answered(
    exported: Workspace, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "notes.txt").write_text("about the pictures")
    (photographs / "broken.jpg").write_bytes(b"not a picture")
    table = predict("colours", [photographs], exported)
    assert len(table) == 12
    said = capsys.readouterr().err.splitlines()
    assert f"{photographs / 'notes.txt'}: left out, .txt does not fit" in said
    assert [line for line in said if line.startswith(f"{photographs / 'broken.jpg'}: left out, row 0")]


def test_a_named_file_is_tried_whatever_its_suffix(exported: Workspace, photographs: Path) -> None:
    renamed = Path(shutil.move(photographs / "test1" / "9.png", photographs / "nine"))
    assert len(predict("colours", [renamed], exported)) == 1


def test_more_files_than_are_read_at_once(exported: Workspace, photographs: Path, tmp_path: Path) -> None:
    encoded = (photographs / "test1" / "9.png").read_bytes()
    for number in range(40):
        (tmp_path / f"{number:02}.png").write_bytes(encoded)
    table = predict("colours", [tmp_path / f"{number:02}.png" for number in range(40)], exported)
    assert len(table) == 40
    assert table["label"].nunique() == 1


def test_nothing_to_answer_is_an_error(exported: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file to predict in .*empty; looked for \.bmp, \.gif"):
        predict("colours", [tmp_path / "empty"], exported)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 1 files could be read"):
        predict("colours", [tmp_path / "bad.png"], exported)
    with pytest.raises(ValueError, match="missing does not exist"):
        predict("colours", [tmp_path / "missing"], exported)


def test_an_application_without_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run `dvc repro export@colours` first"):
        predict("colours", [tmp_path], checkout(tmp_path))


def test_predicting_leaves_the_export_as_it_was(
    exported: Workspace, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    folder = exported.folder("colours", "export")
    before = sorted(folder.rglob("*"))
    predict("colours", [photographs], exported)
    assert sorted(folder.rglob("*")) == before
    assert json.loads((folder / "signature.json").read_text())["labels"] == list(colours.CLASSES)


def test_bytes_become_text_or_files(tmp_path: Path) -> None:
    picture = next(each for each in colours.pictures().values() if each.startswith(b"\x89PNG"))
    table = pd.DataFrame({"file": ["x/a.txt", "y/a.txt"], "image": [picture, b"other"], "score": [0.5, 1.0]})
    told = without_bytes(table)
    assert base64.b64decode(told["image"][0]) == picture
    assert told[["file", "score"]].equals(table[["file", "score"]])
    kept = without_bytes(table, tmp_path / "made")
    assert [Path(each).name for each in kept["image"]] == ["image-a.png", "image-a.bin"]
    assert Path(kept["image"][0]).read_bytes() == picture
