"""The sets that need neither network nor files."""

import subprocess
import sys

import numpy as np
import pytest

from jaxmeta import data
from jaxmeta.data import _glyphs, _strokes, _windows


@pytest.fixture(scope="module")
def glyphs(cache):
    return data.load("glyphs", cache=cache)


@pytest.fixture(scope="module")
def distinct():
    return _glyphs.distinct_glyphs()


def test_the_package_imports_without_jax_and_without_what_it_reads_with():
    blocked = (
        "jax",
        "tensorflow_datasets",
        "sklearn",
        "seglearn",
        "HersheyFonts",
        "PIL",
        "tensorflow",
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked})); "
        "import jaxmeta.data as d; print(len(d.catalogue()))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        == "12\n"
    )


def test_glyphs_are_20_drawings_of_1025_glyphs(glyphs):
    assert glyphs.inputs.shape == (20_500, 28, 28, 1) and glyphs.inputs.dtype == np.uint8
    assert (glyphs.counts().sum(0) == 20).all()
    assert len(glyphs.group_names) == 19 and glyphs.class_names[0] == "futural/U+0021"
    ink = (glyphs.inputs > 127).mean((1, 2, 3))
    assert 0.002 < ink.min() and ink.max() < 0.6, "bright strokes on a dark ground, none blank"


def test_no_alphabet_of_glyphs_is_in_two_splits(glyphs):
    parts = [glyphs.split(which) for which in ("train", "validation", "test")]
    assert [len(part.class_names) for part in parts] == [650, 113, 262]
    for names in (
        [set(part.class_names) for part in parts],
        [set(part.group_names) for part in parts],
    ):
        assert len(set.union(*names)) == sum(map(len, names))
    assert set(parts[2].group_names) == {"gothicita", "japanese", "music"}


def test_no_glyph_is_there_twice(distinct):
    images = np.stack(
        [_strokes.plain(glyph).ravel() for glyphs in distinct.values() for glyph in glyphs.values()]
    )
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    assert np.triu(images @ images.T, 1).max() <= 0.95 + 1e-5


def test_glyphs_are_drawn_from_the_seed_alone(glyphs, distinct):
    rows = np.flatnonzero(glyphs.labels == 700)
    font, code = glyphs.class_names[700].split("/U+")
    glyph = distinct[font][int(code, 16)]
    again = _strokes.drawn(np.random.default_rng([0, int(code, 16), *font.encode()]), glyph, 20)
    np.testing.assert_array_equal(glyphs.inputs[rows, ..., 0], again)
    assert len({image.tobytes() for image in glyphs.inputs[rows]}) == 20


def test_ink_is_the_distance_to_a_segment():
    """A level stroke of radius 0.9 through pixel centres: rows at 0, 1 and 2 pixels have ink 1, 0.4
    and 0."""
    ink = _strokes._render(
        np.array([[[4.0, 14.5], [24.0, 14.5]]]), np.array([[0, 1]]), np.array([0.9])
    )[0]
    np.testing.assert_allclose(ink[12:17, 14], [0, 0.4, 1, 0.4, 0], atol=1e-5)
    np.testing.assert_allclose(ink[14, [2, 3, 4]], [0, 0.9, 1], atol=1e-5)


def test_glyphs_stand_upright(distinct):
    """A seven has its bar at the top."""
    seven = _strokes.plain(distinct["futural"][ord("7")])
    rows = np.flatnonzero(seven.sum(1) > 0.5)
    assert seven[rows[:3]].sum() > 2 * seven[rows[-3:]].sum()


def test_digits_are_those_of_scikit_learn(cache):
    from sklearn.datasets import load_digits

    digits = data.load("digits", cache=cache)
    source = load_digits()
    np.testing.assert_array_equal(digits.labels, source.target)
    assert digits.inputs.shape == (1797, 28, 28, 1) and digits.inputs.max() == 255
    small = digits.inputs[..., 0].reshape(1797, 4, 7, 4, 7).mean((2, 4))
    coarse = source.images.reshape(1797, 4, 2, 4, 2).mean((2, 4))
    assert np.corrcoef(small.ravel(), coarse.ravel())[0, 1] > 0.98, "orientation"
    assert [len(digits.splits[which]) for which in ("train", "validation", "test")] == [5, 2, 3]


def test_watch_is_140_recordings_of_10_people_in_windows(cache):
    watch = data.load("watch", cache=cache)
    assert watch.inputs.shape == (3605, 128, 6) and watch.inputs.dtype == np.float32
    assert watch.counts().shape == (10, 7) and watch.counts().min() > 0
    assert watch.domain_names == ("left", "right") and set(watch.domains) == {0, 1}
    gravity = np.linalg.norm(watch.inputs[..., :3].mean(1), axis=-1)
    assert 0.8 < np.median(gravity) < 1.2, "acceleration is in g"
    people = [set(watch.split(which).group_names) for which in watch.splits]
    assert sum(map(len, people)) == len(set.union(*people)) == 10


def test_windows_overlap_by_half_and_drop_the_rest():
    signal = np.arange(11.0)[:, None]
    assert _windows.windows(signal, 4)[:, 0, 0].tolist() == [0, 2, 4, 6]
    assert _windows.windows(signal[:3], 4).shape == (0, 4, 1)
