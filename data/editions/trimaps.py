"""The tables that Oxford adds to its pets: lists, trimaps and boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from data.editions.drawing import Plane
from data.editions.faults import save_png

LIST_HEAD = """#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images
#images with small first letter are dog images
"""
"""As published, word for word."""


def tables(folder: str, marked: list[tuple[str, str, Plane]]) -> Iterator[tuple[str, bytes]]:
    """Oxford's `list.txt`, `trainval.txt`, `test.txt`, trimaps and boxes. Capital initials are cats."""
    labels = sorted({label for _, label, _ in marked}, key=str.lower)
    species = {label: 1 if label[0].isupper() else 2 for label in labels}
    breed = {
        label: 1 + [each for each in labels if species[each] == species[label]].index(label)
        for label in labels
    }
    rows = [
        f"{stem} {labels.index(label) + 1} {species[label]} {breed[label]}"
        for stem, label, _ in sorted(marked, key=lambda entry: entry[0].lower())
    ]
    yield (
        f"{folder}README",
        b"Lists, trimaps and boxes of drawn heads, in the format of the Oxford-IIIT Pet data set.\n",
    )
    yield f"{folder}list.txt", (LIST_HEAD + "\n".join(rows) + "\n").encode()
    yield f"{folder}trainval.txt", ("\n".join(rows[::2]) + "\n").encode()
    yield f"{folder}test.txt", ("\n".join(rows[1::2]) + "\n").encode()
    for stem, label, covered in marked:
        trimap = np.where(covered > 0.9, 1, np.where(covered < 0.1, 2, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        save_png(Image.fromarray(trimap), buffer)
        yield f"{folder}trimaps/{stem}.png", buffer.getvalue()
        yield f"{folder}xmls/{stem}.xml", _box(stem, "cat" if species[label] == 1 else "dog", covered)


def _box(stem: str, kind: str, covered: Plane) -> bytes:
    """Oxford boxes the head; here it is the whole of what is drawn."""
    rows, columns = np.nonzero(covered > 0.5)
    height, width = covered.shape
    corners = {
        "xmin": columns.min() + 1,
        "ymin": rows.min() + 1,
        "xmax": columns.max() + 1,
        "ymax": rows.max() + 1,
    }
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
    return (
        f"<annotation><folder>OXIIIT</folder><filename>{stem}.jpg</filename><source><database>drawn</database>"
        f"</source><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        f"<segmented>0</segmented><object><name>{kind}</name><pose>Frontal</pose><truncated>0</truncated>"
        f"<occluded>0</occluded><bndbox>{box}</bndbox><difficult>0</difficult></object></annotation>\n"
    ).encode()
