"""The lease of an accelerator: never more stages on a device than it has slots, from any checkout or door.

A slot is a file under a lock of the operating system, which frees it when its holder ends, however it ends.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

POLL_SECONDS = 0.2
LEASED = "PRACTICUM_LEASED"
"""Set while a lease is held: processes that a stage launches share its lease."""
_kept: list[str] = []
"""The device of this process's first lease: CUDA reads CUDA_VISIBLE_DEVICES once, so a warm process stays."""


def visible_devices() -> tuple[str, ...]:
    """Accelerators that this process may use, by the names that CUDA_VISIBLE_DEVICES takes; none without one.

    PRACTICUM_DEVICES (names with commas between) replaces what the machine says. Otherwise they are NVIDIA's,
    as UUIDs, a partition of a device (MIG) being a device of its own, and limited to CUDA_VISIBLE_DEVICES.
    """
    given = os.environ.get("PRACTICUM_DEVICES")
    if given is not None:
        return _names(given)
    found = _installed()
    limited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if limited is None:
        return tuple(name for names in found for name in names)
    names: list[str] = []
    for name in _names(limited):
        if name.isdecimal():
            names += found[int(name)] if int(name) < len(found) else []
        else:
            names += [each for group in found for each in group if each.startswith(name)]
    return tuple(names)


def slots_per_device() -> int:
    """How many leases of a device may be held at once: PRACTICUM_PER_DEVICE, or 1. ValueError below 1."""
    given = os.environ.get("PRACTICUM_PER_DEVICE", "1")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"PRACTICUM_PER_DEVICE is {given!r}; it must be a whole number of at least 1")
    return int(given)


def slots_folder() -> Path:
    """Where the slots of this host lie: PRACTICUM_SLOTS, or one folder for all checkouts of a user."""
    own = Path(tempfile.gettempdir()) / f"practicum-devices-{os.getuid()}"
    return Path(os.environ.get("PRACTICUM_SLOTS") or own)


@contextmanager
def leased(count: int | None = 1) -> Iterator[tuple[str, ...]]:
    """Hold `count` devices, or all for None or if there are fewer, while the body runs; none without one.

    Sets CUDA_VISIBLE_DEVICES for this process and its children, so it must be entered before CUDA is first
    asked in this process. Waits for as long as others hold the slots. A process that leases one device again
    waits for the same one. Processes launched by a holder share its lease; those of a torchrun that somebody
    started have the devices that he gave them, and lease none. OSError where the folder cannot be
    written.
    """
    devices = visible_devices()
    held = os.environ.get(LEASED)
    if held is not None or not devices or "LOCAL_RANK" in os.environ:
        yield _names(held or "")
        return
    count = len(devices) if count is None else min(count, len(devices))
    with ExitStack() as stack:
        if count == 1:
            chosen = [_one(stack, [each for each in _kept if each in devices] or devices)]
            _kept[:] = chosen
        else:
            chosen = _several(stack, devices, count)
        stack.callback(_free_memory)
        stack.enter_context(
            _environment({"CUDA_VISIBLE_DEVICES": ",".join(chosen), LEASED: ",".join(chosen)})
        )
        yield tuple(chosen)


def _one(stack: ExitStack, devices: Sequence[str]) -> str:
    """Lock a slot of any of the devices, the least used ones first; says once that it waits."""
    slots = [(device, slot) for slot in range(slots_per_device()) for device in devices]
    waiting = False
    while True:
        for device, slot in slots:
            if _locked(stack, f"{device}-{slot}"):
                return device
        if not waiting:
            print(
                f"waiting for an accelerator: {', '.join(devices)} in use (slots: {slots_folder()})",
                flush=True,
            )
            waiting = True
        time.sleep(POLL_SECONDS)


def _several(stack: ExitStack, devices: Sequence[str], count: int) -> list[str]:
    """Lock a slot of `count` devices; one process at a time gathers, so that no two wait for each other's."""
    with ExitStack() as gathering:
        while not _locked(gathering, "gathering"):
            time.sleep(POLL_SECONDS)
        chosen: list[str] = []
        while len(chosen) < count:
            chosen.append(_one(stack, [device for device in devices if device not in chosen]))
    return sorted(chosen, key=list(devices).index)


def _locked(stack: ExitStack, name: str) -> bool:
    folder = slots_folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock"
    try:
        stack.enter_context(FileLock(file, timeout=0, mode=0o666))  # a team's folder: anyone may take a slot
    except Timeout:
        return False
    return True


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _installed() -> list[list[str]]:
    """UUIDs of NVIDIA's devices in the driver's order; for a divided one, those of its partitions."""
    import pynvml as nvml

    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        return [_partitions(nvml, handle) or [nvml.nvmlDeviceGetUUID(handle)] for handle in handles]
    finally:
        nvml.nvmlShutdown()


def _partitions(nvml: Any, handle: Any) -> list[str]:
    names = []
    try:
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            names.append(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    except nvml.NVMLError:  # not divided, or not as often as it could be
        pass
    return names


def _free_memory() -> None:
    """A warm process keeps the blocks that it allocated; the next holder of the device shall have them."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
