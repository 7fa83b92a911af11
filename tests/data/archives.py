"""Archives of the sets' own forms, made small."""

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

ALPHABETS = {
    "images_background": ("Greek", 1),
    "images_background_small1": ("Greek", 1),
    "images_background_small2": ("Latin", 3),
    "images_evaluation": ("Angelic", 5),
}


def drawing(label, number):
    """A 1-bit drawing as Omniglot stores it, ink 0 on paper 1: a dot whose place tells the label
    and the number."""
    image = np.ones((105, 105), bool)
    image[10 * label : 10 * label + 9, 20 * number : 20 * number + 9] = False
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    return png.getvalue()


def omniglot(folder):
    """Writes the four archives, with two characters of two drawings in each."""
    folder.mkdir(parents=True)
    for name, (alphabet, first) in ALPHABETS.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for character in (1, 2):
                label = first + character - 1
                for number in (1, 2):
                    archive.writestr(
                        f"{name}/{alphabet}/character{character:02d}/{label:04d}_{number:02d}.png",
                        drawing(label, number),
                    )


def idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def recordings(people=30):
    """name -> text of people's raw recordings of 400 samples.

    1 to 256 is walking, 257 to 400 sitting, and 1 to 128 has the label of every other activity too.
    """
    stretches = [(1, 1, 256), (4, 257, 400)] + [
        (activity, 1, 128) for activity in (2, 3, *range(5, 13))
    ]
    everyone = range(1, people + 1)
    texts = {
        "labels.txt": "".join(
            f"{user} {user} {activity} {first} {last}\n"
            for user in everyone
            for activity, first, last in stretches
        )
    }
    for user in everyone:
        for sensor, offset in (("acc", 0.0), ("gyro", 1000.0)):
            rows = 10_000 * user + offset + np.arange(400)[:, None] + np.array([0.0, 0.25, 0.5])
            texts[f"{sensor}_exp{user:02d}_user{user:02d}.txt"] = "\n".join(
                " ".join(map(str, row)) for row in rows
            )
    return texts


def pack(path, texts):
    """Writes name -> text as a zip or a tar.xz, as the path's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
    else:
        with tarfile.open(path, "w:xz") as archive:
            for name, text in texts.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
