"""What a search varies: settings of `fine_tune` by path, each with a range, choices or a common factor."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tasks.changes import with_changes
from tasks.parameters import Parameters, nearest

if TYPE_CHECKING:
    from optuna import Trial

BLOCK = "fine_tune"
"""The one stage whose settings a search may vary: those of earlier stages change what is asked."""
DEFAULT = ("fine_tune.phases.*.rates=x0.1..10:log",)
"""The course's own first question: is there a better rate? All peak rates times one factor."""
LUCK = ("fine_tune.seed",)
"""Settings whose best value is luck; `repeat` measures how much."""
DIGITS = 4
"""Significant digits of what is drawn, so that a table and a command can show it whole."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(x?)({_NUMBER})\.\.({_NUMBER})(:log)?")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that is varied."""

    path: str
    """Below the entry; `*` stands for every position of a list, which then all get the same."""
    text: str
    """How it was written: `1e-4..1e-1:log`, `16,32,64` or `x0.1..10:log`."""
    places: tuple[tuple[str, Any], ...]
    """The paths that `path` stands for, with the values in effect there."""
    low: float = 0
    high: float = 0
    log: bool = False
    whole: bool = False
    """Whether only whole numbers are drawn."""
    factor: bool = False
    """What is drawn multiplies the values in effect."""
    choices: tuple[str, ...] = ()
    """As YAML; in the place of a range."""

    def suggest(self, trial: "Trial") -> float | int | str:
        """Ask Optuna for a value."""
        if self.choices:
            return str(trial.suggest_categorical(self.path, self.choices))
        if self.whole:
            return trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log)
        return self._rounded(trial.suggest_float(self.path, self.low, self.high, log=self.log))

    def read(self, drawn: Any) -> Any:
        """What Optuna drew, as it is used: a number that is not whole has `DIGITS` digits."""
        return self._rounded(drawn) if isinstance(drawn, float) else drawn

    def changes(self, drawn: float | int | str) -> dict[str, Any]:
        """The settings, by path, that a drawn value means."""
        if self.factor:
            return {place: _times(value, float(drawn)) for place, value in self.places}
        value = _yaml(str(drawn)) if self.choices else drawn
        return {place: value for place, _ in self.places}

    def ends(self) -> tuple[float | int | str, ...]:
        """What is valid for these is taken to be valid for what lies between."""
        return self.choices or ((int(self.low), int(self.high)) if self.whole else (self.low, self.high))

    def current(self) -> float | int | str | None:
        """What would have to be drawn for the settings in effect; None where the space does not hold them."""
        if self.factor:
            return 1.0 if self.low <= 1 <= self.high else None
        values = [value for _, value in self.places]
        if any(value != values[0] for value in values):
            return None
        if self.choices:
            return next((choice for choice in self.choices if _yaml(choice) == values[0]), None)
        inside = isinstance(values[0], int | float) and self.low <= values[0] <= self.high
        return values[0] if inside else None

    def _rounded(self, value: float) -> float:
        return min(max(_round(value), self.low), self.high)


def read_space(
    parameters: Parameters, application: str, over: Sequence[str] = (), file: Path | None = None
) -> tuple[Dimension, ...]:
    """The space that texts `PATH=VALUES` and a YAML file of paths and values give; `DEFAULT` without both.

    ValueError before anything runs for an unknown path, values that the settings do not allow, or two
    dimensions that set the same value.
    """
    texts = [*over, *(_lines(file) if file else ())] or list(DEFAULT)
    document = full_block(parameters, application)
    space = []
    for text in texts:
        try:
            space.append(_dimension(text, document))
        except ValueError as error:
            raise ValueError(f"--over {text}: {error}") from None
    taken: dict[str, str] = {}
    for dimension in space:
        for place, _ in dimension.places:
            for other, text in taken.items():
                if f"{place}.".startswith(f"{other}.") or f"{other}.".startswith(f"{place}."):
                    raise ValueError(f"--over {dimension.path} and --over {text} both set {place}")
        taken |= {place: dimension.path for place, _ in dimension.places}
        for end in dimension.ends():
            try:
                settle(parameters, application, dimension.changes(end)).application(application)
            except ValueError as error:
                raise ValueError(f"--over {dimension.path}={dimension.text}: {error}") from None
    return tuple(space)


def changes_of(space: Sequence[Dimension], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, by path, that one drawn value per dimension means."""
    return {
        path: value for dimension in space for path, value in dimension.changes(drawn[dimension.path]).items()
    }


def settle(parameters: Parameters, application: str, changes: Mapping[str, Any]) -> Parameters:
    """The parameters with these settings of `fine_tune`; what is left to a default is written out first."""
    whole = with_changes(parameters, application, full_block(parameters, application))
    return with_changes(whole, application, changes)


def full_block(parameters: Parameters, application: str) -> dict[str, Any]:
    """`fine_tune` with every default written out, by the name of the block."""
    entry, _ = parameters.application(application)
    return {BLOCK: entry.block(BLOCK).model_dump(mode="json", by_alias=True)}


def written(changes: Mapping[str, Any], parameters: Parameters, application: str) -> dict[str, Any]:
    """The changes as `params.yaml` can take them: a list that is left to its default is given as a whole."""
    entry = parameters.applications[application]
    settled = settle(parameters, application, changes).applications[application]
    given: dict[str, Any] = {}
    for place, value in changes.items():
        path: list[str] = []
        held, full = entry, settled
        for key in place.split("."):
            if isinstance(full, list) and not isinstance(held, list):
                given[".".join(path)] = _without_defaults(full)
                break
            path.append(key)
            held = (held or {}).get(key) if isinstance(full, Mapping) else held[int(key)]
            full = full[key] if isinstance(full, Mapping) else full[int(key)]
        else:
            given[place] = value
    return given


def _lines(file: Path) -> Iterator[str]:
    if not file.is_file():
        raise ValueError(f"--space {file} does not exist")
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text())
    except YAMLError as error:
        raise ValueError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} must map paths to values, such as `fine_tune.batch_size: [16, 32]`")
    for path, values in content.items():
        yield f"{path}={','.join(map(to_yaml, values)) if isinstance(values, list) else values}"


def _dimension(text: str, document: Mapping[str, Any]) -> Dimension:
    path, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError("write it as PATH=LOW..HIGH[:log], PATH=A,B,C or PATH=xLOW..HIGH[:log]")
    if path.partition(".")[0] != BLOCK:
        raise ValueError(f"only settings of {BLOCK} can be searched; the path must begin with `{BLOCK}.`")
    if path in LUCK:
        raise ValueError("the best seed is luck; `python -m flows repeat` measures how much it matters")
    places = tuple(_places(document, path.split("."), ()))
    if not places:
        raise ValueError(f"{path} stands for nothing here")
    if not (found := _RANGE.fullmatch(values)):
        return Dimension(path=path, text=values, places=places, choices=_choices(values))
    times, first, last, log = found.groups()
    low, high = float(first), float(last)
    if not low < high or (log and low <= 0) or (times and low <= 0):
        raise ValueError("a range goes from low to high; on a log scale and as a factor from above 0")
    now = [value for _, value in places]
    if times and not all(map(_numbers, now)):
        raise ValueError(f"a factor needs numbers in effect, not {now[0]!r}")
    whole = not times and all(re.fullmatch(r"[-+]?\d+", end) for end in (first, last))
    return Dimension(
        path=path, text=values, places=places, low=low, high=high, log=bool(log), factor=bool(times),
        whole=whole and not any(isinstance(value, float) for value in now),
    )  # fmt: skip


def _choices(values: str) -> tuple[str, ...]:
    try:
        choices = [to_yaml(choice) for choice in _yaml(f"[{values}]")]
    except YAMLError:
        raise ValueError(f"{values!r} is neither a range nor a list of choices in YAML") from None
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise ValueError("give at least two choices that differ, such as 16,32,64, or a range LOW..HIGH")
    return tuple(choices)


def _places(here: Any, keys: Sequence[str], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The places below `here` that the keys stand for, with their values."""
    if not keys:
        yield ".".join(path), here
        return
    key, *rest = keys
    if isinstance(here, list):
        here = {str(position): value for position, value in enumerate(here)}
    if not isinstance(here, Mapping):
        raise ValueError(f"{'.'.join(path)} is a value, not a block")
    if key != "*" and key not in here:
        raise ValueError(f"{'.'.join((*path, key))} is no parameter{nearest(key, here)}")
    for name in here if key == "*" else (key,):
        yield from _places(here[name], rest, (*path, name))


def _numbers(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_times(each, factor) for each in value]
    return round(value * factor) if isinstance(value, int) else _round(value * factor)


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _without_defaults(value: Any) -> Any:
    """Without what is None: there nothing was written."""
    if isinstance(value, list):
        return [_without_defaults(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _without_defaults(each) for key, each in value.items() if each is not None}
    return value


def _yaml(text: str) -> Any:
    """A value as YAML 1.2 reads it, in which 1e-3 is a number."""
    return YAML(typ="safe", pure=True).load(text)


def to_yaml(value: Any) -> str:
    """A value on one line, so that YAML 1.1 and 1.2 read the same from it."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
