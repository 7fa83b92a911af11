"""`glyphs`: the vector fonts of A. V. Hershey drawn as by a hand, an Omniglot-like world that needs
no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ._dataset import Dataset
from ._recipe import Recipe
from ._strokes import Glyph, drawn, plain

_SEED = 0
_DRAWINGS = 20  # of each glyph, as in Omniglot
_SAME = 0.95  # cosine of two plain renderings above which two glyphs are one
_FEWEST = 10  # glyphs of its own that a font needs to count as an alphabet
# Whole alphabets, so that no class of the test resembles its neighbours of training by style; and,
# in the test, the only syllabary, the musical signs and one black letter: what is held out is new,
# as in Omniglot's evaluation set.
_HELD_OUT = {
    "validation": ("greek", "greekc", "markers", "mathlow"),
    "test": ("gothicita", "japanese", "music"),
}


def build(files: dict[str, Path], cache: Path) -> Dataset:
    alphabets = distinct_glyphs()
    classes = [
        (font, code, glyph) for font, glyphs in alphabets.items() for code, glyph in glyphs.items()
    ]
    fonts = tuple(alphabets)
    # A generator for each glyph: what is drawn of one does not depend on which others are kept.
    images = [
        drawn(np.random.default_rng([_SEED, code, *font.encode()]), glyph, _DRAWINGS)
        for font, code, glyph in classes
    ]
    font_of = np.array([fonts.index(font) for font, _, _ in classes])
    where = {font: which for which, held in _HELD_OUT.items() for font in held}
    split_of = np.array([where.get(font, "train") for font, _, _ in classes])
    return Dataset(
        name="glyphs",
        inputs=np.concatenate(images)[..., None],
        labels=np.repeat(np.arange(len(classes)), _DRAWINGS),
        groups=np.repeat(font_of, _DRAWINGS),
        class_names=tuple(f"{font}/U+{code:04X}" for font, code, _ in classes),
        group_names=fonts,
        by="class",
        splits={
            which: np.flatnonzero(split_of == which) for which in ("train", "validation", "test")
        },
        protocol="whole alphabets held out: "
        + "; ".join(f"{k} {', '.join(v)}" for k, v in _HELD_OUT.items()),
    )


def distinct_glyphs() -> dict[str, dict[int, Glyph]]:
    """Returns font -> code point -> glyph, without blanks and without glyphs that an earlier font
    already has.

    Many of the 32 fonts share glyphs, or redraw one in two strokes: on both sides of a split they
    would leak. Two glyphs are the same when the cosine of their plain renderings exceeds `_SAME`;
    the first font in alphabetical order, after the plain roman one, keeps it. Fonts left with fewer
    than `_FEWEST` glyphs are dropped.
    """
    glyphs = list(_fonts())
    images = np.stack([plain(glyph).ravel() for _, _, glyph in glyphs])
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    alike = images @ images.T > _SAME
    kept: list[int] = []
    alphabets: dict[str, dict[int, Glyph]] = {}
    for i, (font, code, glyph) in enumerate(glyphs):
        if not alike[i, kept].any():
            kept.append(i)
            alphabets.setdefault(font, {})[code] = glyph
    return {font: glyphs for font, glyphs in alphabets.items() if len(glyphs) >= _FEWEST}


def _fonts():
    """Yields (font, code point, glyph) of every glyph that has a stroke."""
    from HersheyFonts import HersheyFonts

    hershey = HersheyFonts()
    for font in hershey.default_font_names:
        hershey.load_default_font(font)
        for character, glyph in hershey.all_glyphs.items():
            strokes = [np.array(stroke) for stroke in glyph.strokes if len(stroke) > 1]
            if strokes:
                yield font, ord(character), Glyph(strokes)


RECIPES = (
    Recipe(
        name="glyphs",
        kind="image",
        classes=1025,
        groups=19,
        group="alphabet",
        by="class",
        build=build,
        description=(
            "Strokes of the Hershey vector fonts drawn by a simulated hand, 20 drawings a glyph, "
            "28x28."
        ),
        origin=(
            "Hershey, Calligraphy for Computers, 1967, as shipped by the package Hershey-Fonts "
            "2.1 (MIT); the drawings are made here, from a fixed seed."
        ),
    ),
)
