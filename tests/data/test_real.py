"""Known facts of the real sets. They are built once a session, which takes a minute or two: hence
slow."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow

_MNIST = [
    6903,
    7877,
    6990,
    7141,
    6824,
    6313,
    6876,
    7293,
    6825,
    6958,
]  # of 0 to 9, training and test together


def names_of(dataset, what):
    return [set(getattr(dataset.split(which), what)) for which in ("train", "validation", "test")]


def disjoint(sets):
    return len(set.union(*sets)) == sum(map(len, sets))


def test_omniglot(real):
    omniglot = real("omniglot")
    assert omniglot.inputs.shape == (32_460, 28, 28, 1) and omniglot.inputs.dtype == np.uint8
    assert (omniglot.counts().sum(0) == 20).all() and omniglot.counts().shape == (50, 1623)
    assert [len(omniglot.splits[which]) for which in ("train", "validation", "test")] == [
        1028,
        172,
        423,
    ]
    assert omniglot.protocol.startswith("torchmeta")
    assert disjoint(names_of(omniglot, "class_names"))
    alphabets = names_of(omniglot, "group_names")
    assert alphabets[1] & (alphabets[0] | alphabets[2]) == set() and alphabets[0] & alphabets[
        2
    ] == {"Gurmukhi"}
    assert len({image.tobytes() for image in omniglot.inputs}) == 32_459, (
        "the source holds one drawing twice"
    )


def test_omniglot_is_what_its_archive_shows(real):
    omniglot = real("omniglot")
    rows = np.flatnonzero(omniglot.labels == omniglot.class_names.index("Greek/character05"))
    with zipfile.ZipFile(
        Path(os.environ["JAXMETA_DATA"]) / "omniglot" / "images_background.zip"
    ) as archive:
        names = [
            name
            for name in archive.namelist()
            if "/Greek/character05/" in name and name.endswith(".png")
        ]
        shown = {
            ImageOps.invert(Image.open(io.BytesIO(archive.read(name))).convert("L"))
            .resize((28, 28), Image.Resampling.BILINEAR)
            .tobytes()
            for name in names
        }
    assert len(names) == 20 and {image.tobytes() for image in omniglot.inputs[rows]} == shown


@pytest.mark.parametrize(
    "name, alphabets, characters",
    [("omniglot_background", 30, 964), ("omniglot_small1", 5, 136), ("omniglot_small2", 5, 156)],
)
def test_background_sets_of_omniglot(real, name, alphabets, characters):
    small, whole = real(name), real("omniglot")
    assert small.counts().shape == (alphabets, characters) and (small.counts().sum(0) == 20).all()
    assert disjoint(names_of(small, "class_names")) and set(small.class_names) <= set(
        whole.class_names
    )
    one = small.class_names[7]
    assert {image.tobytes() for image in small.inputs[small.labels == 7]} == {
        image.tobytes() for image in whole.inputs[whole.labels == whole.class_names.index(one)]
    }


def test_mnist(real):
    mnist = real("mnist")
    assert mnist.inputs.shape == (70_000, 28, 28, 1) and mnist.inputs.dtype == np.uint8
    assert mnist.counts().tolist() == [_MNIST] and np.bincount(mnist.domains).tolist() == [
        60_000,
        10_000,
    ]
    zero, one = (mnist.inputs[mnist.labels == digit][..., 0].mean(0) for digit in (0, 1))
    assert one[14, 14] > 150 > 20 > zero[14, 14], "a one is ink in the middle, a zero is not"
    assert disjoint(names_of(mnist, "class_names"))


@pytest.mark.parametrize(
    "name, windows",
    [
        ("hapt", [1722, 1544, 1407, 1801, 1979, 1958]),
        ("hapt_transitions", [1722, 1544, 1407, 1801, 1979, 1958, 70, 33, 107, 85, 139, 84]),
    ],
)
def test_hapt(real, name, windows):
    """The windows follow from labels.txt alone: 1 + (samples - 128) // 64 of each stretch."""
    hapt = real(name)
    assert hapt.inputs.shape == (sum(windows), 128, 6) and hapt.inputs.dtype == np.float32
    assert (
        hapt.counts().sum(0).tolist() == windows
        and (hapt.counts()[:, :6] > 0).all()
        and len(hapt.counts()) == 30
    )
    assert disjoint(names_of(hapt, "group_names"))
    lying = hapt.inputs[hapt.labels == 5][..., :3].mean((0, 1))
    upright = hapt.inputs[hapt.labels == 4][..., :3].mean((0, 1))
    assert 0.9 < upright[0] < 1.1 and abs(lying[0]) < 0.3, (
        "gravity is along x, in g, for whoever stands"
    )


def test_phone_watch(real):
    made = real("phone_watch")
    assert (
        made.inputs.shape == (11_251, 64, 6)
        and made.counts().shape == (23, 5)
        and made.counts().min() >= 10
    )
    assert dict(zip(made.class_names, made.counts().sum(0).tolist())) == {
        "seated": 937,
        "standing_up": 1072,
        "walking": 5931,
        "turning": 1962,
        "sitting_down": 1349,
    }
    gravity = np.linalg.norm(made.inputs[..., :3].mean(1), axis=-1)
    assert 9.0 < np.median(gravity) < 10.5, "acceleration is in m/s^2"
    assert disjoint(names_of(made, "group_names"))
    assert all(set(made.split(which).domains) == {0, 1} for which in made.splits), (
        "both devices in every split"
    )
