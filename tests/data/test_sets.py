"""From archives to arrays through tfds, on archives small enough to check by hand."""

import dataclasses
import functools
import http.server
import threading

import archives
import numpy as np
import pytest
from tensorflow_datasets.image_classification import omniglot as tfds_omniglot

from jaxmeta import data
from jaxmeta.data import _catalogue, _hapt, _mnist, _omniglot, _phone_watch
from jaxmeta.data._source import File, fetch


def files(folder):
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(whole set, small set, folder) of an Omniglot of six characters in three alphabets."""
    root = tmp_path_factory.mktemp("omniglot")
    archives.omniglot(root / "source")
    with pytest.MonkeyPatch.context() as patch:
        for module, classes, alphabets in (
            (_omniglot, "_CLASSES", "_ALPHABETS"),
            (tfds_omniglot, "_NUM_CLASSES", "_NUM_ALPHABETS"),
        ):
            patch.setattr(module, classes, 6)
            patch.setattr(module, alphabets, 3)
        patch.setattr(_omniglot, "_SIZES", (2, 1, 1))
        build = functools.partial(_omniglot.build, files(root / "source"), root / "cache")
        yield (
            build(name="omniglot", parts=("train", "test")),
            build(name="omniglot_small2", parts=("small2",)),
            root,
        )


def test_omniglot_has_its_classes_groups_and_names(small):
    whole, part, _ = small
    assert whole.class_names == (
        "Greek/character01",
        "Greek/character02",
        "Angelic/character01",
        "Angelic/character02",
    )
    assert whole.group_names == ("Angelic", "Greek") and whole.class_groups.tolist() == [1, 1, 0, 0]
    assert whole.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert part.class_names == ("Latin/character01", "Latin/character02") and part.group_names == (
        "Latin",
    )
    assert whole.protocol == "seeded_split of characters, 2/1/1, seed 0"


def test_omniglot_is_upright_and_bright_on_dark(small):
    """Label l, drawing m is a dot at row 10 l, column 20 m of 105."""
    whole, _, _ = small
    assert whole.inputs.dtype == np.uint8 and whole.inputs.shape == (8, 28, 28, 1)
    rows, columns = np.indices((28, 28))
    for label, images in zip((1, 2, 5, 6), whole.inputs[..., 0].reshape(4, 2, 28, 28)):
        centres = sorted(
            (round((image * columns).sum() / image.sum()), (image * rows).sum() / image.sum())
            for image in images.astype(float)
        )
        assert [column for column, _ in centres] == [6, 11]  # (20 m + 4) * 28 / 105 - 1/2
        np.testing.assert_allclose(
            [row for _, row in centres], (10 * label + 4.5) * 28 / 105 - 0.5, atol=0.1
        )
    assert whole.inputs.max() == 255 and (whole.inputs == 0).mean() > 0.9


def test_omniglot_is_there_under_its_official_tfds_name(small):
    import tensorflow_datasets as tfds

    root = small[2]
    sources = tfds.data_source("omniglot", data_dir=root / "cache" / "tfds", download=False)
    assert {part: len(source) for part, source in sources.items()} == {
        "train": 4,
        "test": 4,
        "small1": 4,
        "small2": 4,
    }
    example = sources["test"][0]
    assert example["image"].shape == (105, 105, 3) and set(np.unique(example["image"])) == {0, 255}
    info = tfds.builder("omniglot", data_dir=root / "cache" / "tfds").info
    assert info.features["alphabet"].names == ["Angelic", "Greek", "Latin"]
    assert info.features["label"].names[-1] == "Angelic_1"


def test_omniglot_takes_the_published_split_where_it_is(small, tmp_path):
    whole, _, _ = small
    listed = {
        "train": '{"background": {"Greek": ["character02"]}, '
        '"evaluation": {"Angelic": ["character01"]}}',
        "val": '{"background": {"Greek": ["character01"]}}',
        "test": '{"evaluation": {"Angelic": ["character02"]}}',
    }
    for which, text in listed.items():
        (tmp_path / f"torchmeta_omniglot_{which}.json").write_text(text)
    splits, protocol = _omniglot._splits(files(tmp_path), whole.class_names, whole=True)
    assert {which: ids.tolist() for which, ids in splits.items()} == {
        "train": [1, 2],
        "validation": [0],
        "test": [3],
    }
    assert protocol.startswith("torchmeta")
    (tmp_path / "torchmeta_omniglot_val.json").write_text(
        '{"background": {"Geek": ["character01"]}}'
    )
    with pytest.raises(
        ValueError, match=r"torchmeta_omniglot_val.json must list half .* got KeyError"
    ):
        _omniglot._splits(files(tmp_path), whole.class_names, whole=True)


def test_mnist_is_read_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(_mnist, "_PARTS", {"train": ("train", 12), "test": ("t10k", 3)})
    images = np.random.default_rng(0).integers(0, 256, (15, 28, 28))
    labels = np.arange(15) % 10
    source = tmp_path / "mnist"
    source.mkdir()
    for prefix, rows in (("train", slice(12)), ("t10k", slice(12, 15))):
        archives.idx(source / f"{prefix}-images-idx3-ubyte.gz", images[rows])
        archives.idx(source / f"{prefix}-labels-idx1-ubyte.gz", labels[rows])
    mnist = _mnist.build(files(source), tmp_path / "cache")
    assert mnist.labels.tolist() == sorted(labels) and mnist.domains.sum() == 3
    written = {
        (int(label), image.astype(np.uint8).tobytes()) for label, image in zip(labels, images)
    }
    assert {
        (int(label), image.tobytes()) for label, image in zip(mnist.labels, mnist.inputs)
    } == written


@pytest.mark.parametrize("form", ["hapt.tar.xz", "hapt.zip"])
def test_hapt_windows_lie_wholly_in_a_segment(tmp_path, form):
    archives.pack(
        tmp_path / form, {f"RawData/{name}": text for name, text in archives.recordings().items()}
    )
    hapt = _hapt.build(
        {_hapt.RAW.name: tmp_path / form}, tmp_path / "cache", name="hapt", classes=6
    )
    # 256 samples of walking hold windows at 1, 65 and 129; 144 of sitting hold one at 257.
    assert hapt.counts().tolist() == [[3, 1, 1, 1, 1, 1]] * 30
    walking = hapt.inputs[(hapt.groups == 1) & (hapt.labels == 0)]
    assert sorted(walking[:, 0, 0]) == [20_000, 20_064, 20_128]
    sitting = hapt.inputs[(hapt.groups == 0) & (hapt.labels == 3)]
    np.testing.assert_array_equal(
        sitting[0, 0], [10_256, 10_256.25, 10_256.5, 11_256, 11_256.25, 11_256.5]
    )
    np.testing.assert_array_equal(np.diff(hapt.inputs[..., 0]), np.diff(hapt.inputs[..., 3]))
    assert (hapt.recordings == hapt.groups + 1).all()  # one experiment a person
    assert (
        len(set(hapt.bouts[(hapt.groups == 1) & (hapt.labels == 0)])) == 1
        and len(set(hapt.bouts)) == 6 * 30
    )
    np.testing.assert_array_equal(hapt.apart, hapt.bouts)


def test_phone_watch_windows_have_one_label(tmp_path):
    head = _phone_watch._COLUMNS.decode() + "\n"
    labels = (
        ["SEATED"] * 70
        + ["TURNING"] * 130
        + ["WALKING"] * 64
        + ["STANDING_UP"] * 64
        + ["SITTING_DOWN"] * 95
    )
    rows = "".join(f"{i},0,0,0,0,{i},0,{label}\n" for i, label in enumerate(labels))
    archives.pack(
        tmp_path / "a.tar.xz",
        {
            f"DATA/s{person:02d}/s{person:02d}_01_{device}.csv": head + rows
            for person in range(1, 24)
            for device in ("sp", "sw")
        },
    )
    made = _phone_watch.build(
        {_phone_watch.ARCHIVE.name: tmp_path / "a.tar.xz"}, tmp_path / "cache"
    )
    counts = dict(zip(made.class_names, made.counts()[1]))
    assert counts == {"seated": 2, "standing_up": 2, "walking": 2, "turning": 6, "sitting_down": 2}
    assert made.domain_names == ("phone", "watch") and 2 * made.domains.sum() == len(made)
    assert sorted(set(made.inputs[:, 0, 0])) == [0, 70, 102, 134, 200, 264, 328]
    turning = made.inputs[:, 0, 0][
        (made.groups == 4) & (made.labels == made.class_names.index("turning"))
    ]
    assert sorted(turning) == sorted([70, 102, 134] * 2)
    person = made.groups == 4
    assert (
        set(made.recordings[person]) == {5001} and len(set(made.bouts[person])) == 2 * 5
    )  # of two devices 5 stretches
    assert all(len(set(made.domains[made.bouts == bout])) == 1 for bout in set(made.bouts))


def test_a_download_is_checked_and_whole_or_not_at_all(tmp_path, monkeypatch, offline):
    """A server on this machine stands in for UCI."""
    archives.pack(tmp_path / "web" / "hapt.zip", archives.recordings())
    content = (tmp_path / "web" / "hapt.zip").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in ("/hapt.zip", "/cut.zip"):
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.path == "/hapt.zip" else content[:100])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        for name, known, error, message in (
            (
                "none.zip",
                {},
                OSError,
                "could not be fetched .*404.*; connect .* or put the file at hapt/h",
            ),
            ("cut.zip", {}, OSError, f"could not be fetched .*it gave 100 bytes of {len(content)}"),
            ("hapt.zip", {"size": 7}, OSError, f"it gave {len(content)} bytes of 7"),
            ("hapt.zip", {"sha256": "0" * 64}, ValueError, "sha256 .* expected 0000"),
        ):
            with pytest.raises(error, match=message):
                fetch(File("hapt", "h", address + name, **known), tmp_path / "got" / "h")
            assert list((tmp_path / "got").iterdir()) == []
        there = _hapt.RAW._replace(url=address + "hapt.zip")
        stand_in = dataclasses.replace(_catalogue._RECIPES["hapt"], files=(there,))
        monkeypatch.setitem(_catalogue._RECIPES, "hapt", stand_in)
        hapt = data.load("hapt", cache=tmp_path / "cache")
        server.shutdown()
    assert len(hapt) == 240
    assert (tmp_path / "cache" / "downloads" / "hapt" / "hapt_raw.tar.xz").read_bytes() == content
