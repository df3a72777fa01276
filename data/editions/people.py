"""An edition of a census: people with names and numbers, and an income that no single column tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from data.editions.archives import write_archive

SEED = 20190424

WORKCLASS = {"Private": 0.7, "Self-emp-not-inc": 0.09, "Local-gov": 0.08, "Federal-gov": 0.05, "?": 0.08}
EDUCATION = {
    "7th-8th": (4, 0.05), "HS-grad": (9, 0.35), "Some-college": (10, 0.25), "Assoc-acdm": (12, 0.08),
    "Bachelors": (13, 0.18), "Masters": (14, 0.07), "Doctorate": (16, 0.02),
}  # fmt: skip
MARITAL = {"Married-civ-spouse": 0.47, "Never-married": 0.33, "Divorced": 0.15, "Widowed": 0.05}
OCCUPATIONS = (
    "Exec-managerial", "Prof-specialty", "Tech-support", "Sales", "Craft-repair", "Adm-clerical",
    "Machine-op-inspct", "Other-service", "Farming-fishing", "?",
)  # fmt: skip
RACES = {"White": 0.84, "Black": 0.1, "Asian-Pac-Islander": 0.04, "Other": 0.02}
SCHOOLED = frozenset({"Prof-specialty", "Tech-support", "Exec-managerial"})
"""Occupations in which schooling pays; in the others experience does."""


class People(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """A table in the layout of the course's adult.csv."""

    file: str
    """Name of the archive."""
    path: str
    """Name of the table inside."""
    rows: int = Field(ge=1100)
    """People, faults not counted; rows 800 to 999 are the course's validation part."""
    targets: tuple[str, str] = Field(strict=False)
    """Words for little and much income."""
    seed: int = Field(default=SEED, ge=0)
    """Of the drawing."""


def draw_people(settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """An archive with one table: sound rows first, then one fault of each kind."""
    checked = People.model_validate(dict(settings))
    lines = [",".join(HEADER), *_people(checked), *_faults(checked)]
    return [write_archive(folder / checked.file, [(checked.path, ("\n".join(lines) + "\n").encode())])]


HEADER = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
    "salary",
)  # fmt: skip


def _people(settings: People) -> list[str]:
    rng = np.random.default_rng(settings.seed)
    count = settings.rows

    def pick(weights: Mapping[str, float]) -> NDArray[Any]:
        shares = np.array(list(weights.values()))
        return rng.choice(np.array(list(weights)), size=count, p=shares / shares.sum())

    age = rng.gamma(6, 6.5, count).clip(17, 90).round().astype(int)
    education = pick({name: share for name, (_, share) in EDUCATION.items()})
    years = np.array([EDUCATION[name][0] for name in education])
    occupation = np.array(OCCUPATIONS)[
        (rng.normal((14 - years) * 0.55, 2.2, count)).clip(0, 9).round().astype(int)
    ]
    sex = np.where(rng.random(count) < 0.67, "Male", "Female")
    marital = np.where((age < 26) & (rng.random(count) < 0.8), "Never-married", pick(MARITAL))
    wed = marital == "Married-civ-spouse"
    relationship = np.where(
        wed, np.where(sex == "Male", "Husband", "Wife"), np.where(age < 24, "Own-child", "Unmarried")
    )
    hours = rng.normal(np.where(age < 22, 30, 41), 9, count).clip(5, 99).round().astype(int)
    gain = np.where(rng.random(count) < 0.07, rng.integers(1, 150, count) * 100, 0)
    race, workclass = pick(RACES), pick(WORKCLASS)
    # Schooling pays in some occupations, experience in the others; being wed counts beyond an age only.
    schooled = np.isin(occupation, sorted(SCHOOLED))
    score = np.where(schooled, (years - 11.5) * 0.85, (age - 40) * 0.14)
    score += np.where(wed, np.where(age > 30, 1.7, -1.0), -1.2) + (hours - 40) * 0.05 + (gain > 5000) * 4
    score += np.where(sex == "Male", 0.35, -0.35)
    rich = rng.random(count) < 1 / (1 + np.exp(-(1.5 * score - 0.9)))
    country = np.where(rng.random(count) < 0.9, "United-States", "Mexico").astype(object)
    country[np.arange(count) % 97 == 13] = "?"
    country[850:860] = "Holand-Netherlands"  # only here, so that training never sees it
    number = np.char.add(years.astype(str), ".0").astype(object)
    number[rng.random(count) < 0.015] = ""
    blank = occupation.astype(object)
    blank[rng.random(count) < 0.015] = ""
    weight = rng.integers(20_000, 400_000, count)
    target = np.array(settings.targets)[rich.astype(int)]
    columns = (age, workclass, weight, education, number, marital, blank, relationship, race, sex, gain,
               np.where(rng.random(count) < 0.04, 1902, 0), hours, country, target)  # fmt: skip
    spaced = {
        "workclass",
        "education",
        "marital-status",
        "occupation",
        "relationship",
        "race",
        "sex",
        "native-country",
    }
    return [
        ",".join(
            f" {value}" if name in spaced and value else str(value)
            for name, value in zip(HEADER, row, strict=True)
        )
        for row in zip(*columns, strict=True)
    ]


def _faults(settings: People) -> list[str]:
    """A row too short, one too long, a word for a number, an endless number, no target, an unknown one."""
    low, high = settings.targets
    person = (
        "{age}, Private,100000, HS-grad,{years}, Divorced, Sales, Unmarried, White, Male,0,0,40,"
        " United-States{end}"
    )
    return [
        "39, Private,100000, HS-grad",
        person.format(age=40, years="9.0", end=f",{low},left over"),
        person.format(age="forty-one", years="9.0", end=f",{low}"),
        person.format(age=42, years="inf", end=f",{high}"),
        person.format(age=43, years="9.0", end=","),
        person.format(age=44, years="9.0", end=",perhaps"),
    ]
