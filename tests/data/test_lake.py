"""The within-alphabet one-shot protocol on an archive in its layout."""

import io
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from processes import jaxmeta

import jaxmeta as jm
from jaxmeta import data
from jaxmeta.experiment import one_shot_errors, one_shot_trials

WAYS = 4
SHIPPED = Path(__file__).parents[2] / "benchmarks" / "models"


def png(place):
    image = np.ones((105, 105), bool)
    image[20 * place + 5 : 20 * place + 15, 5:100] = False
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def archive(path, left_out="", runs=3):
    """Run r, item i shows the bar of class (i + r) % WAYS, whose training image is class number +
    1."""
    with zipfile.ZipFile(path, "w") as file:
        for run in range(1, runs + 1):
            name, lines = f"run{run:02d}", []
            for item in range(WAYS):
                place = (item + run) % WAYS
                lines.append(
                    f"{name}/test/item{item + 1:02d}.png {name}/training/class{place + 1:02d}.png"
                )
                for image, shown in (
                    (f"training/class{item + 1:02d}", item),
                    (f"test/item{item + 1:02d}", place),
                ):
                    if f"{name}/{image}" != left_out:
                        file.writestr(f"all_runs/{name}/{image}.png", png(shown))
            file.writestr(f"all_runs/{name}/class_labels.txt", "\n".join(lines) + "\n")
    return path


def test_runs_are_read_and_told_apart(tmp_path):
    runs = data.one_shot_runs(archive(tmp_path / "all_runs.zip"))
    assert runs.support.shape == runs.query.shape == (3, WAYS, 28, 28, 1) and runs.names == (
        "run01",
        "run02",
        "run03",
    )
    assert runs.targets.tolist() == [
        [(item + run) % WAYS for item in range(WAYS)] for run in (1, 2, 3)
    ]
    np.testing.assert_array_equal(
        np.take_along_axis(runs.support, runs.targets[..., None, None, None], 1), runs.query
    )
    assert runs.support[0, 0].max() > 200 > 20 > np.median(runs.support[0, 0]), (
        "bright strokes on a dark ground"
    )
    raw = jm.models.Model(
        lambda key, x: {}, lambda params, x, reference=None: x.reshape(len(x), -1)
    )
    bilevel = jm.protonet(raw, WAYS).bilevel
    errors = one_shot_errors(jax.random.key(0), bilevel, {}, runs)
    assert errors.alone[0].tolist() == errors.assigned[0].tolist() == [0, 0, 0]
    wrong = runs._replace(targets=np.roll(runs.targets, 1, 1))
    assert one_shot_errors(jax.random.key(0), bilevel, {}, wrong).alone[1].mean == 1


def test_dealing_out_one_to_one_repairs_what_two_queries_claim(tmp_path):
    runs = data.one_shot_runs(archive(tmp_path / "all_runs.zip", runs=1))
    query = runs.query.astype(float)
    query[0, 0] = (
        0.45 * query[0, 0] + 0.55 * query[0, 1]
    )  # nearer to another's class, which is nearer still to its own
    raw = jm.models.Model(
        lambda key, x: {}, lambda params, x, reference=None: x.reshape(len(x), -1)
    )
    errors = one_shot_errors(
        jax.random.key(0), jm.protonet(raw, WAYS).bilevel, {}, runs._replace(query=query)
    )
    assert errors.alone[0].tolist() == [1 / WAYS] and errors.assigned[0].tolist() == [0]


def test_views_are_averaged_and_see_bent_images(tmp_path):
    runs = data.one_shot_runs(archive(tmp_path / "all_runs.zip"))
    seen = []

    def look(params, x, reference=None):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return x.reshape(len(x), -1)

    bilevel = jm.protonet(jm.models.Model(lambda key, x: {}, look), WAYS).bilevel
    errors = one_shot_errors(jax.random.key(0), bilevel, {}, runs, views=4)
    jax.effects_barrier()
    assert 0 <= errors.alone[1].mean < 0.5
    originals = runs.support[0] / 255
    bent = [
        np.abs(originals - image).max((1, 2, 3)).min() > 1e-3 for batch in seen for image in batch
    ]
    assert sum(bent) == 3 * len(bent) / 4 > 0
    with pytest.raises(ValueError, match="views must be at least 1, got 0"):
        one_shot_errors(jax.random.key(0), bilevel, {}, runs, views=0)


def test_trials_stay_in_an_alphabet_and_in_two_drawings():
    glyphs = data.load("glyphs").split("validation")
    trials = one_shot_trials(glyphs, 6, ways=5, seed=3)
    assert [name[-3:] for name in trials.names] == [
        f"{run // len(glyphs.group_names):03d}" for run in range(6)
    ]
    assert trials.names[0][:-3] == glyphs.group_names[0]
    again = one_shot_trials(glyphs, 6, ways=5, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(trials, again))
    where = {image.tobytes(): row for row, image in enumerate(glyphs.inputs)}
    for support, query, targets in zip(*trials[:3]):
        rows = [[where[image.tobytes()] for image in part] for part in (support, query)]
        labels = glyphs.labels[np.array(rows)]
        assert (
            len(set(labels[0])) == 5
            and (labels[0][targets] == labels[1]).all()
            and not set(rows[0]) & set(rows[1])
        )
        assert len(set(glyphs.groups[np.array(rows)].ravel())) == 1
    with pytest.raises(ValueError, match="trials need groups of at least 2000 classes"):
        one_shot_trials(glyphs, 1, ways=2000)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: path, "there is no file"),
        (
            lambda path: archive(path, "run02/test/item03"),
            "lacks run02/test/item03.png, which run02/class_labels.txt names",
        ),
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive") and path, "damaged or truncated"),
        (lambda path: archive(path, runs=0), "holds no runNN/class_labels.txt"),
    ],
)
def test_an_archive_that_is_none_is_refused(tmp_path, make, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.one_shot_runs(make(tmp_path / "all_runs.zip"))


@pytest.mark.slow
def test_the_command_evaluates_a_run_by_the_protocol(tmp_path):
    code, _, stderr = jaxmeta(
        "train",
        "--algorithm",
        "protonet",
        "--data",
        "digits",
        "--ways",
        2,
        "--model",
        "mlp",
        "--width",
        8,
        "--tasks",
        2,
        "--steps",
        2,
        "--episodes",
        4,
        "--out",
        tmp_path / "run",
    )
    assert code == 0, stderr
    runs = archive(tmp_path / "all_runs.zip")
    code, stdout, stderr = jaxmeta("evaluate", tmp_path / "run", "--lake", runs, "--json")
    assert code == 0, stderr
    found = json.loads(stdout)
    assert found["ways"] == WAYS and set(found["alone"]["runs"]) == {"run01", "run02", "run03"}
    assert 0 <= found["assigned"]["error"] <= 1
    code, _, stderr = jaxmeta("evaluate", tmp_path / "run", "--lake", runs, "--ways", 3)
    assert code == 2 and "bring their own data, ways" in stderr
    code, _, stderr = jaxmeta("evaluate", tmp_path / "run", "--views", 3)
    assert code == 2 and "--views are of the runs of --lake, got 3 without it" in stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(SHIPPED.glob("lake_*")), ids=lambda path: path.name)
def test_the_shipped_models_are_evaluated_by_the_one_command(tmp_path, model):
    code, stdout, stderr = jaxmeta(
        "evaluate", model, "--lake", archive(tmp_path / "all_runs.zip"), "--views", 2, "--json"
    )
    assert code == 0, stderr
    found = json.loads(stdout)
    assert (
        found["ways"] == WAYS and found["views"] == 2 and found["alone"]["error"] == 0
    )  # bars in four places
