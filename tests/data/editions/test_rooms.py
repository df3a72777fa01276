"""Drawn bedrooms: no two alike, a bed in each, and every reason for leaving a picture out."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from data.editions import generate
from data.editions.rooms import Room, furnish
from data.examples import Reject
from data.images.unlabelled import PictureCleaning, clean_pictures
from tests.jobs import raw_of
from tests.scratch import ROOT


@pytest.mark.parametrize("bed", ["left", "right"])
def test_the_bed_stands_where_it_should(bed: str) -> None:
    look = Room.model_validate({"draw": "room", "bed": bed})
    drawn = [furnish(look, np.random.default_rng(seed), height=48, width=60) for seed in range(12)]
    assert len({pixels.tobytes() for pixels, _ in drawn}) == 12
    for pixels, covered in drawn:
        assert pixels.shape == (48, 60, 3)
        where = np.nonzero(covered > 0.5)[1].mean()
        assert (where < 30) == (bed == "left")
        assert 0.05 < covered.mean() < 0.6


def test_every_reason_to_leave_a_picture_out_is_planted(tmp_path: Path) -> None:
    source = yaml.safe_load((ROOT / "sources" / "lsun_bedrooms.yaml").read_text())
    settings = {"file": source["file"], **source["generated"], "parts": {"bedroom": 3}}
    (path,) = generate(settings.pop("generator"), settings, tmp_path / "drawn")
    raw = raw_of(tmp_path / "download", {path.name: path})
    answers = list(clean_pictures(raw, PictureCleaning(shortest=32)))
    reasons = Counter(each.reason for each in answers if isinstance(each, Reject))
    assert reasons == {
        "not an image": 2, "empty file": 1, "truncated": 1, "above the pixel limit": 1, "too small": 1,
    }  # fmt: skip
    rows = [each for each in answers if not isinstance(each, Reject)]
    assert sum(row["reencoded"] for row in rows) == 5, "on its side, and four modes"
    assert sorted(Counter(row["digest"] for row in rows).values())[-2:] == [2, 2], "two exact copies"
    assert all(Image.open(io.BytesIO(row["image"])).mode == "RGB" for row in rows)
