"""The files a set is built from: found in a folder, or fetched; and archives read with faults that
say what to do."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_TIMEOUT = 60.0  # seconds without an answer
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
)


class File(NamedTuple):
    """A file of a set: its place `folder/name` in a source folder, and where it is published.

    `size` (bytes) and `sha256` are those of the published file, checked after a download. A local
    file may be packed in another way, so its content is checked instead. Without `needed`, the set
    can be built without it. `home` is the page where people get by hand what no program may fetch.
    """

    folder: str
    name: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    needed: bool = True
    home: str | None = None


def source_folder(source: str | os.PathLike | None = None) -> Path | None:
    """Returns `source`, else $JAXMETA_DATA, else None: then files are fetched.

    Raises:
      FileNotFoundError: it is no folder.
    """
    chosen = source or os.environ.get("JAXMETA_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the source {folder} is not a folder; give the folder that holds the archives as "
            "source= or JAXMETA_DATA, or neither, to fetch them"
        )
    return folder


def find(file: File, source: Path) -> Path | None:
    """Returns where `source` holds the file: in the folder of its set, or directly."""
    return next(
        (path for path in (source / file.folder / file.name, source / file.name) if path.is_file()),
        None,
    )


def locate(files: Sequence[File], source: Path | None, downloads: Path) -> dict[str, Path]:
    """Returns name -> path of each file that is there, fetching them where there is no source
    folder.

    Raises:
      FileNotFoundError: the source folder lacks a needed file, or a file is published nowhere.
      OSError: a download failed.
      ValueError: what was fetched is not the published file.
    """
    found = {}
    for file in files:
        path = find(file, source) if source else downloads / file.folder / file.name
        if source is None and not path.is_file():
            if file.url is None:
                raise FileNotFoundError(
                    f"{file.name} has no public address that this program knows; "
                    f"{_by_hand(file)}put it at {file.folder}/{file.name} in a folder and give it "
                    "as source= or JAXMETA_DATA"
                )
            fetch(file, path)
        if path is not None:
            found[file.name] = path
        elif file.needed:
            fetched = ", or neither, to fetch it where it is published" if file.url else ""
            raise FileNotFoundError(
                f"{source} lacks {file.folder}/{file.name}; {_by_hand(file)}give the folder that "
                f"holds it as source= or JAXMETA_DATA{fetched}"
            )
    return found


def _by_hand(file: File) -> str:
    return f"get it by hand at {file.home} and " if file.home else ""


def fetch(file: File, target: Path) -> None:
    """Downloads a file to `target`, which is there whole or not at all.

    Raises:
      OSError: no connection, no such file, no space, another size than published.
      ValueError: another checksum than published.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".making-", dir=target.parent)
    digest, size = hashlib.sha256(), 0
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(file.url, timeout=_TIMEOUT) as answer,
        ):
            while block := answer.read(1 << 20):
                size += len(block)
                digest.update(block)
                out.write(block)
            announced = answer.headers.get("Content-Length")
        expected = file.size if file.size is not None else announced and int(announced)
        if expected is not None and size != expected:
            raise ConnectionError(f"it gave {size} bytes of {expected}")
        if file.sha256 is not None and digest.hexdigest() != file.sha256:
            raise ValueError(
                f"{file.url} gave a file with sha256 {digest.hexdigest()}, expected {file.sha256}; "
                "the file changed or was altered on its way: fetch it elsewhere as "
                f"{file.folder}/{file.name} and give the folder as source="
            )
        os.replace(partial, target)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"{file.url} could not be fetched ({error}); connect to the network, or put the file "
            f"at {file.folder}/{file.name} in a folder and give it as source= or JAXMETA_DATA"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the archive modules raise on a damaged file into one sentence."""
    try:
        yield
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
        raise ValueError(
            f"the archive {path} is damaged or truncated ({reason}); replace it with a whole one"
        ) from error


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of each file in a zip or (compressed) tar archive, in the archive's
    order.

    Raises:
      ValueError: the archive is damaged or truncated.
    """
    with reading(path), path.open("rb") as file:
        if file.read(2) == b"PK":  # by content: a name says little of what was fetched
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, archive.read(info)
        else:
            with tarfile.open(path, "r:*") as archive:
                for info in archive:
                    if info.isfile():
                        yield info.name, archive.extractfile(info).read()


def gunzipped(path: Path) -> bytes:
    """Returns the content of a .gz file; ValueError where it is damaged or truncated."""
    with reading(path), gzip.open(path) as file:
        return file.read()
