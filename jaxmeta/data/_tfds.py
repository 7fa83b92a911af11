"""tensorflow-datasets without TensorFlow: a set is built from local files under its tfds name, then
read by that name.

tfds reads and writes array_record files with no TensorFlow, but its own builders walk their
archives through TensorFlow's file layer. `local` replaces just that walk: features, version and
name stay those of tfds, so what is built here is what `tfds.data_source` finds.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ._cache import building

Examples = Iterable[
    tuple[str | int, dict[str, Any]]
]  # (key, features): tfds shuffles by the keys' hash


def local(
    builder: type,
    examples: Mapping[str, Callable[[], Examples]],
    names: Mapping[str, list[str]] | None = None,
) -> type:
    """Returns the tfds builder class with its download and its walk replaced.

    Args:
      builder: a tfds builder class.
      examples: split -> function that yields the split's examples.
      names: label feature -> its class names, where the built-in builder learns them from the
        archives.
    """
    import tensorflow_datasets as tfds

    def split_generators(self, dl_manager):
        for feature, known in (names or {}).items():
            self.info.features[feature].names = known
        return {which: self._generate_examples(make) for which, make in examples.items()}

    def generate_examples(self, make):
        yield from make()

    with tfds.core.registered.skip_registration():
        return type(
            builder.__name__,
            (builder,),
            {
                "name": builder.name,
                "__module__": builder.__module__,
                "_split_generators": split_generators,
                "_generate_examples": generate_examples,
            },
        )


def built(cache: Path, name: str, version: str, make: Callable[[], type]) -> Path:
    """Returns the folder of a tfds set in `cache`, building it there from the class that `make`
    gives if it is not."""
    folder = cache / "tfds" / name / version
    if not folder.is_dir():
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        with building(folder) as making:
            builder = make()(data_dir=making, file_format="array_record")
            with contextlib.redirect_stdout(
                io.StringIO()
            ):  # standard output belongs to the program that asks
                builder.download_and_prepare(download_dir=making / name / "downloads")
            for file in Path(
                os.fspath(builder.data_path)
            ).iterdir():  # from making/name/version to making itself
                file.rename(making / file.name)
            shutil.rmtree(making / name)
    return folder


def read(folder: Path, split: str, raw: tuple[str, ...] = ()) -> tuple[list[dict[str, Any]], Any]:
    """Returns (every example of a split as a feature dictionary, the set's features); those in
    `raw` stay encoded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    decoders = {feature: tfds.decode.SkipDecoding() for feature in raw}
    source = builder.as_data_source(split, decoders=decoders or None)
    return source.__getitems__(
        range(len(source))
    ), builder.info.features  # in bulk: one read, not one an example
