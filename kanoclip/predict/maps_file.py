"""Pack the raw maps of a prediction into maps.h5.

During prediction each map is a separate small file, so that an interruption or a full disk loses none. At the end they
are packed together with those that an earlier run has packed.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from kanoclip.files import whole
from kanoclip.hdf5 import open_hdf5, reading
from kanoclip.predict.outputs import PACKED_MAPS, PIECES, piece
from kanoclip.predict.records import read_records
from kanoclip.types import InputError

MARGIN = 10**6  # bytes that HDF5 may need beside a map
REMEDY = "delete the folder and predict again"


def write_maps(folder: Path) -> None:
    """Pack the maps of all predicted images.

    The file holds "image", (N,) names in the order of predictions.csv, and "map/<n>" for the n-th of them, counted from
    0: float32 in 0..1, (S, S) for the square that the model saw, or (H, W) for an image cut into tiles.

    Args:
        folder: folder of the prediction.

    Raises:
        InputError: a map is missing, or the packed file of an earlier run is damaged.
    """
    packed = folder / PACKED_MAPS
    with whole(packed) as temporary, h5py.File(temporary, "w") as file:
        names = []
        for number, (name, values) in enumerate(_maps(folder)):
            names.append(os.fsencode(name))
            if shutil.disk_usage(folder).free < values.nbytes + MARGIN:  # HDF5 would crash the process
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(packed))
            file.create_dataset(f"map/{number}", data=values, compression="gzip", compression_opts=1, fletcher32=True)
        file.create_dataset("image", data=names, dtype=h5py.string_dtype(), shape=(len(names),))
    shutil.rmtree(folder / PIECES, ignore_errors=True)


def _maps(folder: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield names and maps in the order of the lines: new maps from their own files, others from the packed file."""
    packed = folder / PACKED_MAPS
    names = (record["image"] for record in read_records(folder) if "error" not in record)
    if not packed.is_file():
        yield from ((name, _piece(folder, name)) for name in names)
        return
    with open_hdf5(packed, "maps of an earlier run", REMEDY) as old, reading(packed, "maps", REMEDY):
        place = {name: number for number, name in enumerate(old["image"][:])}
        for name in names:
            number = place.get(os.fsencode(name))
            if number is None or (folder / piece(name)).is_file():
                yield name, _piece(folder, name)
            else:
                yield name, old[f"map/{number}"][:]


def _piece(folder: Path, name: str) -> NDArray[np.float32]:
    path = folder / piece(name)
    try:
        found: NDArray[np.float32] = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected the map of {name}, found none that is whole; {REMEDY}") from error
    return found
