"""`params.yaml` as typed, frozen settings; every mistake is named by its path and nearest valid name."""

import difflib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from recipes.recipe import Recipe, find_recipe, recipe_names

BLOCKS = ("download", "clean", "split", "fine_tune", "evaluate", "export")
TRACKED = (*BLOCKS, "corrections", "starts_from", "judge")
"""What every entry must hold, also where it says nothing: DVC refuses a path or block that is not there."""


class DownloadBlock(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """How the published bytes are fetched."""

    timeout: float = Field(default=30.0, gt=0)
    """Seconds without a byte after which an attempt at one address ends; of a URL list: all the time that an
    address may take (course, lesson 2 of 2019: 4)."""
    attempts: int = Field(default=5, ge=1)
    """Attempts per address, with exponential back-off between them."""
    workers: int = Field(default=8, ge=1, le=64)
    """Addresses of a URL list fetched at once (course, lesson 2 of 2019: 8)."""
    limit_per_class: int = Field(default=200, ge=1)
    """Addresses taken per URL list at most (course, lesson 2 of 2019: 200)."""


class SplitBlock(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """Which example is held out."""

    method: Literal["random", "stratified", "group", "time", "order", "published"] = "stratified"
    """`published` follows the folders or lists of the archive, `time` holds out the latest, `order` the
    last by item id; the others draw."""
    valid: float = Field(default=0.2, ge=0, lt=1)
    """Share of the examples in the validation part (course: 0.2)."""
    test: float = Field(default=0.0, ge=0, lt=1)
    """Share of the examples in the test part."""
    seed: int = Field(default=42, ge=0)
    """Seed of the draw."""
    folds: int = Field(default=0, ge=0)
    """Equal parts of a cross-validation, in the place of `valid` and `test`; 0 for none."""
    fold: int = Field(default=0, ge=0)
    """Which of the folds is held out, from 0."""
    small_classes: Literal["train", "reject"] = "train"
    """A class with too few examples for every part: all to training, or left out (and reported)."""
    leaks: Literal["stop", "report"] | None = None
    """What a leak does. Default: stop, and report where the split is the published one."""
    duplicates: Literal["apart", "together"] = "apart"
    """`together` puts confirmed near duplicates into one part before the draw, so that none can leak."""
    distance: int = Field(default=10, ge=0, le=16)
    """Bits of the 64-bit perceptual hash by which two candidates may differ; the pixels decide. Of 100
    photographs cropped by 4 % a side, 4 bits find 70 and 10 bits 96."""

    @model_validator(mode="after")
    def _a_fold_of_the_folds(self) -> "SplitBlock":
        if self.folds == 1 or (self.fold and self.fold >= self.folds):
            raise ValueError(f"fold {self.fold} of {self.folds} folds: give at least 2 folds, counted from 0")
        return self


class Schedule(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """When an application is run unattended. Nothing that DVC tracks: another hour makes no stage stale."""

    cron: str | None = "0 2 * * *"
    """Minute, hour, day of the month, month, day of the week; empty for runs on demand only. Default: every
    night, when nobody waits for the machine."""
    timezone: str = "UTC"
    """Where the clock of `cron` stands, as in the IANA data base (`Europe/Berlin`)."""
    late_hours: float = Field(default=6.0, gt=0)
    """Hours that a run may wait for its turn; then it is cancelled: a machine that was off shall not begin
    the day with the work of the night, and the next night comes."""
    time_limit_hours: float = Field(default=12.0, gt=0)
    """Hours that a run may take; then it is ended with all its processes, so that it costs one night and no
    more. A training that was ended goes on where it was at the next run."""

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        try:
            if cron is not None:
                CronSim(cron, datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(f"no cron expression: {error}; write five fields, such as '0 2 * * *'") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ValueError, KeyError, OSError):  # a path that leads elsewhere, no such name, a folder
            raise ValueError(
                "no time zone of the IANA data base; write one such as 'Europe/Berlin'"
            ) from None
        return timezone


class Application(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One entry below `applications`: a recipe, real paths, and one block of numbers per stage."""

    recipe: str
    """A file of `recipes/`, without `.py`."""
    family: str
    """The recipe's folder of `models/` (DVC tracks it, so it stands here)."""
    source: str
    """A file `sources/NAME.yaml`, or a folder or archive of your own."""
    corrections: str
    """A table `item_id,action,label` made by a person; `sources/none` for none."""
    starts_from: str
    """`artifacts/weights/NAME`, another application's `fine_tune` folder, a `.safetensors` file, or
    `sources/none` for random weights."""
    judge: str
    """A second network that judges the first (perceptual loss, Fréchet distance), named like `starts_from`;
    `sources/none` where the recipe needs none."""
    download: DownloadBlock
    clean: Any
    split: SplitBlock
    fine_tune: Any
    evaluate: Any
    export: Any
    schedule: Schedule = Schedule()
    """What differs from the schedule of all applications."""

    def block(self, stage: str) -> Any:
        """The typed settings of one stage."""
        return getattr(self, stage)


class StartingWeights(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """One entry below `weights`."""

    source: str
    """A file `sources/NAME.yaml` of kind `weights`."""


class Parameters(BaseModel, frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True):
    """The whole of `params.yaml`."""

    edition: str
    """`sample` generates every source; any other edition fetches what is published."""
    mirror: str = ""
    """Folder or address with a `MANIFEST.json` whose digests replace the sources' own; empty for none."""
    weights: dict[str, StartingWeights] = {}
    """Published starting weights by name."""
    schedule: Schedule = Schedule()
    """When applications are run unattended; an entry's own `schedule` replaces single values."""
    applications: dict[str, Any]
    """One entry per application."""

    def application(self, name: str) -> tuple[Application, Recipe]:
        """The typed entry of one application and its recipe. ValueError names what is wrong and where."""
        if name not in self.applications:
            raise ValueError(f"params.yaml has no application {name!r}{nearest(name, self.applications)}")
        return read_application(name, self.applications[name])

    def schedule_of(self, name: str) -> Schedule:
        """The schedule in effect for one application. ValueError as for `application`."""
        entry, _ = self.application(name)
        own = {key: getattr(entry.schedule, key) for key in entry.schedule.model_fields_set}
        return self.schedule.model_copy(update=own)


def nearest(name: str, valid: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """A hint to end a message with: the most similar valid name, or all of them."""
    names = [str(each) for each in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; valid: {', '.join(names) or 'none'}"


def load_parameters(path: Path) -> Parameters:
    """Read and check the top level of `params.yaml`; entries are checked when asked for."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run this from the project's root")
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from None
    parameters: Parameters = _validate(Parameters, raw, path.name)
    return parameters


def read_application(name: str, raw: Any) -> tuple[Application, Recipe]:
    """Check one entry against the common blocks and those of its recipe."""
    where = f"applications.{name}"
    if not isinstance(raw, dict):
        raise ValueError(f"{where} must be a mapping, not {type(raw).__name__}")
    wanted = raw.get("recipe")
    if wanted is not None and wanted not in recipe_names():
        raise ValueError(f"{where}.recipe: no recipe {wanted!r}{nearest(wanted, recipe_names())}")
    entry = _validate(Application, raw, where)
    recipe = find_recipe(entry.recipe)
    if entry.family != recipe.family:
        raise ValueError(
            f"{where}.family is {entry.family!r}, but recipe {entry.recipe!r} is of {recipe.family!r}"
        )
    typed = {
        block: _validate(kind, getattr(entry, block) or {}, f"{where}.{block}")
        for block, kind in recipe.blocks.items()
    }
    return entry.model_copy(update=typed), recipe


def _validate(kind: type[Any], raw: Any, where: str) -> Any:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(kind, each, where) for each in error.errors())) from None


def _explain(kind: type[BaseModel], error: Any, where: str) -> str:
    location = [str(part) for part in error["loc"]]
    path = ".".join([where, *location])
    if error["type"] == "extra_forbidden":
        return f"{path} is no parameter{nearest(location[-1], _fields_at(kind, location[:-1]))}"
    if error["type"] == "missing":
        hint = "{}" if location[-1] in BLOCKS else "sources/none"
        told = f"; write at least `{location[-1]}: {hint}`, DVC tracks it" if location[-1] in TRACKED else ""
        return f"{path} is missing{told}"
    if error["type"] == "literal_error":
        valid = tuple(word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ",").split(","))
        return f"{path} is {error['input']!r}{nearest(str(error['input']), valid)}"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict):  # a rule over several fields says which
        return f"{path}: {message}"
    return f"{path} is {error['input']!r}: {message[:1].lower()}{message[1:]}"


def _fields_at(kind: type[BaseModel], location: list[str]) -> list[str]:
    """Names of the fields of the model that stands at `location` below `kind`."""
    models = [kind]
    for part in location:
        models = [
            inner
            for model in models
            for field in ([model.model_fields[part]] if part in model.model_fields else [])
            for inner in _models_in(field.annotation)
        ] or models
    return sorted({field.alias or name for model in models for name, field in model.model_fields.items()})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
