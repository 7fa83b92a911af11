"""Images brought to the one size that the image sets share."""

from __future__ import annotations

import io

import numpy as np

from ._strokes import SIDE


def resized(image: np.ndarray) -> np.ndarray:
    """Returns a grey image [h, w] uint8 as [28, 28] uint8: bilinear, averaging over what a pixel
    covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def png(image) -> io.BytesIO:
    """Returns a PIL image as an encoded file, the form in which tfds takes it without
    TensorFlow."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    buffer.seek(0)
    return buffer


def grey(encoded: bytes) -> np.ndarray:
    """Returns an encoded image as [h, w] uint8; a 1-bit one as 0 and 255."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(encoded)).convert("L"))
