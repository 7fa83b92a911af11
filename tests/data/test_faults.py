"""Every fault is one sentence that says what is wrong, where and what to do, and leaves nothing
half-made."""

import gzip
import json
import multiprocessing
import os
import zipfile

import archives
import numpy as np
import pytest

from jaxmeta import data
from jaxmeta.data import _cache, _digits, _hapt, _mnist, _omniglot, _phone_watch
from jaxmeta.data._source import gunzipped, members

pytestmark = pytest.mark.usefixtures("offline")


def left(folder):
    """Every file under a folder, and every folder in the making."""
    return [path for path in folder.rglob("*") if path.is_file() or path.name.startswith(".making")]


@pytest.mark.parametrize(
    "name, hint", [("omniglt", r" \(did you mean 'omniglot'\?\)"), ("xyz", ""), (3, "")]
)
def test_an_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(
        ValueError, match=f"there is no set {name!r}{hint}; choose one of glyphs, digits,"
    ):
        data.load(name)


def test_a_wrong_source(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"source .*nowhere is not a folder; give the folder that holds"
    ):
        data.load("omniglot", source=tmp_path / "nowhere", cache=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"lacks omniglot/images_background.zip; give the folder"
    ):
        data.load("omniglot", source=tmp_path, cache=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"sp_sw_har_DATA.tar.xz has no public address"):
        data.load("phone_watch", cache=tmp_path)
    assert left(tmp_path) == []


def test_the_folder_of_a_set_will_do_as_source(tmp_path):
    archives.omniglot(tmp_path / "omniglot")
    available = {
        entry.name: entry.available
        for entry in data.catalogue(source=tmp_path / "omniglot", cache=tmp_path)
    }
    assert available["omniglot"] and available["glyphs"] and not available["mnist"]


def test_a_set_with_too_few_classes(tmp_path):
    archives.omniglot(tmp_path / "omniglot")
    with pytest.raises(
        ValueError, match=r"must have 1623 characters in 50 alphabets, got 6 in 3 from .*zip"
    ):
        data.load("omniglot", source=tmp_path, cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["hapt_raw.tar.xz", "hapt_raw.zip"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[: len(whole) // 3] + b"?" * 40 + whole[len(whole) // 3 + 40 :],
        lambda whole: b"",
        lambda whole: b"not an archive",
    ],
    ids=["cut", "altered", "empty", "other"],
)
def test_a_damaged_archive(tmp_path, name, damage):
    path = tmp_path / name
    archives.pack(path, archives.recordings(people=2))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"archive .*hapt_raw.* is damaged or truncated \(.*; replace it"
    ) as caught:
        list(members(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_leaves_no_half_prepared_set(tmp_path):
    source = tmp_path / "hapt" / "hapt_raw.tar.xz"
    archives.pack(source, archives.recordings())
    source.write_bytes(source.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"hapt_raw.tar.xz is damaged or truncated") as caught:
        data.load("hapt", source=tmp_path, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert left(tmp_path / "cache") == []


def test_a_set_with_people_missing(tmp_path):
    archives.pack(tmp_path / "hapt_raw.tar.xz", archives.recordings(people=4))
    with pytest.raises(
        ValueError,
        match=r"hapt_raw.tar.xz must hold windows of every group, got none of 'person05'",
    ):
        data.load("hapt", source=tmp_path, cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_a_truncated_gz(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(1000))[:-9])
    with pytest.raises(ValueError, match=r"a.gz is damaged or truncated"):
        gunzipped(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x0d\x01" + bytes(8), b"\0\0\x08\x01\0\0\0\x05abc"]
)
def test_an_idx_file_that_is_none(tmp_path, content):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(
        ValueError, match=f"must be an idx file of bytes .* got {len(content)} bytes"
    ):
        _mnist.idx(path)


def test_an_archive_of_something_else(tmp_path):
    for path in (tmp_path / "images_background.zip", tmp_path / "b.tar.xz"):
        archives.pack(path, {"readme.txt": "hello"})
    with pytest.raises(ValueError, match="holds no drawing named folder/Alphabet/characterNN"):
        _omniglot.drawings(tmp_path / "images_background.zip")
    with pytest.raises(ValueError, match=r"must hold acc_expNN_userMM.txt"):
        list(_hapt.segments(tmp_path / "b.tar.xz"))
    with pytest.raises(ValueError, match=r"holds no recording named sNN_MM_sp.csv"):
        list(_phone_watch.segments(tmp_path / "b.tar.xz"))


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"labels.txt": "1 1 1 1 500\n"},
            "samples 1 to 500 of experiment 1, user 1, which its recordings do not hold",
        ),
        ({"labels.txt": "9 9 1 1 50\n"}, "experiment 9, user 9, which its recordings do not hold"),
        ({"labels.txt": "1 1 1\n"}, "labels.txt must have 5 columns, got 3"),
        ({"labels.txt": "1 1 13 1 50\n"}, "activity 13"),
        ({"acc_exp01_user01.txt": "a b c\n"}, "acc_exp01_user01.txt must be a table of numbers"),
    ],
)
def test_recordings_of_another_form(tmp_path, changed, message):
    archives.pack(tmp_path / "a.zip", {**archives.recordings(people=2), **changed})
    with pytest.raises(ValueError, match=message):
        list(_hapt.segments(tmp_path / "a.zip"))


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        _phone_watch._COLUMNS.decode() + "\n0,0,0,0,0,x,0,SEATED\n",
        _phone_watch._COLUMNS.decode() + "\n0,0,0,0,0,0,0,FLYING\n",
        _phone_watch._COLUMNS.decode() + "\n",
    ],
)
def test_executions_of_another_form(tmp_path, text):
    archives.pack(tmp_path / "a.zip", {"s01_01_sp.csv": text})
    with pytest.raises(ValueError, match=r"a.zip: s01_01_sp.csv must"):
        list(_phone_watch.segments(tmp_path / "a.zip"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_preparation_leaves_nothing(tmp_path, error):
    with pytest.raises(error), _cache.building(tmp_path / "set") as folder:
        (folder / "half").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path):
    for name, age in ((".making-old", 2 * 86_400), (".making-young", 60)):
        (tmp_path / name).mkdir()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    with _cache.building(tmp_path / "set"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".making-young", "set"]


def test_who_comes_second_drops_its_own(tmp_path):
    with _cache.building(tmp_path / "set") as one:
        with _cache.building(tmp_path / "set") as two:
            (two / "who").write_text("two")
        (one / "who").write_text("one")
    assert (tmp_path / "set" / "who").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_two_processes_prepare_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=data.prepare, args=("watch",), kwargs={"cache": tmp_path})
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(data.load("watch", cache=tmp_path)) == 3605
    assert [path.name for path in (tmp_path / "arrays").iterdir()] == ["watch-2"]


def test_prepare_is_idempotent_and_load_builds_once(tmp_path, monkeypatch):
    folder = data.prepare("digits", cache=tmp_path)
    monkeypatch.setattr(np, "save", lambda *args: pytest.fail("written again"))
    assert data.prepare("digits", cache=tmp_path, source="nowhere") == folder
    assert len(data.load("digits", cache=tmp_path)) == 1797
    prepared = {entry.name for entry in data.catalogue(cache=tmp_path) if entry.prepared}
    assert prepared == {"digits"}


@pytest.mark.parametrize("file", ["inputs.npy", "labels.npy", "about.json"])
@pytest.mark.parametrize("keep", [0, 90, None])
def test_a_damaged_cache(tmp_path, file, keep):
    with _cache.building(tmp_path / "set") as folder:
        _cache.write_arrays(folder, _digits.build({}, tmp_path))
    path = tmp_path / "set" / file
    path.unlink() if keep is None else path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError,
        match=r"the prepared set in .*set is damaged .*; delete this folder and load again",
    ):
        _cache.read_arrays(tmp_path / "set")


def test_a_cache_without_the_bouts_it_had_is_damaged(tmp_path):
    folder = data.prepare("watch", cache=tmp_path)
    assert data.load("watch", cache=tmp_path).bouts is not None
    (folder / "bouts.npy").unlink()
    with pytest.raises(
        ValueError,
        match=r"the prepared set in .*watch-2 is damaged .*; delete this folder and load again",
    ):
        data.load("watch", cache=tmp_path)


def test_a_set_without_bouts_is_cached_as_it_always_was(tmp_path):
    """So that installations of before and after share a cache."""
    folder = data.prepare("digits", cache=tmp_path)
    names = {"inputs", "labels", "groups", "domains"}
    assert {path.stem for path in folder.glob("*.npy")} == names
    assert set(json.loads((folder / "about.json").read_text())) == {
        "name",
        "class_names",
        "group_names",
        "domain_names",
        "by",
        "protocol",
        "splits",
    }
    read = data.load("digits", cache=tmp_path)
    assert (
        len(read) == 1797 and read.bouts is None and read.recordings is None and read.apart is None
    )


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        OSError, match=r"cannot be written .*; set JAXMETA_CACHE or cache= to a folder that can"
    ):
        data.load("digits", cache=tmp_path / "file")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXMETA_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert data.cache_folder("c") == tmp_path.cwd() / "c"
    assert data.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("JAXMETA_CACHE")
    assert data.cache_folder() == tmp_path / "b" / "jaxmeta"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.cache_folder() == tmp_path / ".cache" / "jaxmeta"


def test_a_zip_with_one_damaged_member(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one", b"A" * 100)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"B"))
    with pytest.raises(ValueError, match=r"a.zip is damaged or truncated .*CRC"):
        list(members(path))
