"""SHL's own layout, made small: read a line at a time, kept, labelled; and every fault names file
and row."""

import tracemalloc

import numpy as np
import pytest

from jaxmeta import data
from jaxmeta.data import _shl

pytestmark = pytest.mark.usefixtures("offline")
ROWS = 97  # of a file: the rows 0, 12, ... 96 are kept, labelled 1, ..., 8, 1


def write(folder, rows=ROWS, offset=0.0, channels=_shl.SENSORS):
    """Files of one position: in channel c, row r holds offset + 1000 c + r and sample i adds i /
    1000."""
    folder.mkdir(parents=True)
    samples = np.arange(_shl.LENGTH) / 1000
    for number, name in enumerate(channels):
        lines = (
            " ".join(f"{value:.3f}" for value in offset + 1000 * number + row + samples)
            for row in range(rows)
        )
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    lines = (" ".join([str(row // 12 % 8 + 1)] * _shl.LENGTH) for row in range(rows))
    (folder / "Label.txt").write_text("\n".join(lines) + "\n")
    return folder


def altered(path, row, change):
    """Changes the list of samples of one row, counted from 0."""
    lines = path.read_text().splitlines()
    samples = lines[row].split()
    change(samples)
    lines[row] = " ".join(samples)
    path.write_text("\n".join(lines) + "\n")


def test_the_set_is_built_from_its_folders(tmp_path):
    for part in _shl.PARTS:
        for number, position in enumerate(_shl.POSITIONS):
            write(
                tmp_path / "data" / "shl" / part / position,
                ROWS if part == "train" else 13,
                10_000.0 * number,
            )
    # As in the published files: a missing sample, which the set fills.
    altered(
        tmp_path / "data" / "shl" / "train" / "Hand" / "Gyr_y.txt",
        12,
        lambda row: row.__setitem__(7, "NaN"),
    )
    entry = next(
        entry
        for entry in data.catalogue(source=tmp_path / "data", cache=tmp_path)
        if entry.name == "shl"
    )
    assert entry.available and entry.group == "position"
    shl = data.load("shl", source=tmp_path / "data", cache=tmp_path / "cache")
    assert shl.inputs.shape == (4 * (9 + 2), 500, 6) and shl.inputs.dtype == np.float32
    assert shl.group_names == ("bag", "hand", "hips", "torso") and shl.domain_names == (
        "train",
        "validation",
    )
    assert shl.class_names[:2] == ("still", "walk") and shl.class_names[-1] == "subway"
    hand = shl.inputs[(shl.groups == 1) & (shl.domains == 0)]
    np.testing.assert_allclose(hand[:, 3, 2], 12_000.003 + 12 * np.arange(9), atol=1e-3)
    np.testing.assert_allclose(hand[1, :, 4], 14_012 + np.arange(500) / 1000, atol=2e-3)
    np.testing.assert_array_equal(
        shl.labels[(shl.groups == 1) & (shl.domains == 0)], [0, 1, 2, 3, 4, 5, 6, 7, 0]
    )
    assert (shl.domains == 1).sum() == 8


def test_a_frame_of_two_labels(tmp_path):
    folder = write(tmp_path / "Hips", rows=3, channels=("Pressure",))
    altered(folder / "Label.txt", 1, lambda row: row.__setitem__(slice(0, 300), ["7"] * 300))
    frames, labels = _shl.read(folder, ("Pressure",))
    assert frames.shape == (3, 500, 1) and labels.tolist() == [0, 6, 0]
    frames, labels = _shl.read(folder, ("Pressure",), label=_shl.constant)
    assert frames[:, 0, 0].tolist() == [0.0, 2.0] and labels.tolist() == [0, 0]


def test_memory_holds_what_is_kept(tmp_path):
    folder = write(tmp_path / "Bag", rows=600, channels=("Acc_x",))
    size = (folder / "Acc_x.txt").stat().st_size
    tracemalloc.start()
    frames, _ = _shl.read(folder, ("Acc_x",), step=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(frames) == 6 and size > 1_500_000 and peak < 300_000


@pytest.mark.parametrize(
    "file, row, change, message",
    [
        (
            "Acc_y",
            4,
            lambda row: row.pop(),
            "Acc_y.txt, row 5: a row must have 500 samples, got 499",
        ),
        (
            "Label",
            2,
            lambda row: row.append("1"),
            "Label.txt, row 3: a row must have 500 samples, got 501",
        ),
        (
            "Acc_y",
            3,
            lambda row: row.__setitem__(9, "nan"),
            "Acc_y.txt, row 4: sample 10 is missing or infinite; .*interpolated",
        ),
        (
            "Acc_x",
            0,
            lambda row: row.__setitem__(0, "1,5"),
            "Acc_x.txt, row 1: samples must be numbers",
        ),
        (
            "Label",
            1,
            lambda row: row.__setitem__(0, "9"),
            "Label.txt, row 2: a label must be 1 to 8, got 9",
        ),
        (
            "Label",
            1,
            lambda row: row.__setitem__(0, "0"),
            "Label.txt, row 2: a label must be 1 to 8, got 0",
        ),
        (
            "Label",
            1,
            lambda row: row.__setitem__(0, "nan"),
            "Label.txt, row 2: a label must be 1 to 8, got nan",
        ),
    ],
)
def test_a_fault_in_a_row(tmp_path, file, row, change, message):
    folder = write(tmp_path / "Torso", rows=5, channels=("Acc_x", "Acc_y"))
    altered(folder / f"{file}.txt", row, change)
    with pytest.raises(ValueError, match=message):
        _shl.read(folder, ("Acc_x", "Acc_y"))


def test_a_row_without_any_sample_cannot_be_filled(tmp_path):
    folder = write(tmp_path / "Torso", rows=2, channels=("Mag_x",))
    altered(folder / "Mag_x.txt", 1, lambda row: row.__setitem__(slice(None), ["nan"] * 500))
    with pytest.raises(ValueError, match="Mag_x.txt, row 2: sample 1 is missing"):
        _shl.read(folder, ("Mag_x",), missing=_shl.interpolated)


def test_files_that_do_not_belong_together(tmp_path):
    folder = write(tmp_path / "Torso", rows=5, channels=("Acc_x", "Acc_y"))
    path = folder / "Acc_y.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    with pytest.raises(
        ValueError, match="Acc_y.txt must have 5 rows as Label.txt beside it has, got 4"
    ):
        _shl.read(folder, ("Acc_x", "Acc_y"), step=2)
    with pytest.raises(FileNotFoundError, match="Acc_z.txt is not there; unpack"):
        _shl.read(folder)


def test_absent_files_say_where_to_get_them(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"lacks shl/train/Bag/Acc_x.txt; get it by hand at http://www.shl-"
    ):
        data.load("shl", source=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(
        FileNotFoundError,
        match=r"by hand at http\S* and put it at shl/train/Bag/Acc_x.txt in a folder",
    ):
        data.load("shl", cache=tmp_path / "cache")
