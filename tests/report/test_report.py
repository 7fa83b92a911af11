"""Pictures: drawn for images and windows, for methods with and without inner steps, and refused
where files are missing."""

import json

import numpy as np
import pytest

from jaxmeta import data, report

RESULTS = {
    "ways": 3,
    "shots": 1,
    "inner_steps": 2,
    "episodes": 10,
    **{
        name: {"accuracy": 0.5, "half": 0.1}
        for name in ("trained", "untrained", "from_scratch", "raw_means")
    },
    "curves": {
        "trained": [0.3, 0.4, 0.6],
        "untrained": [0.3, 0.3, 0.4],
        "from_scratch": [0.3] * 21,
    },
}
SHAPES = {"image": (28, 28, 1), "colour": (8, 8, 3), "window": (64, 6)}


def episode(shape, ways=3, shots=1, queries=4):
    rng = np.random.default_rng(0)
    return report.Episode(
        rng.random((ways, shots, *shape)),
        rng.random((ways, queries, *shape)),
        rng.integers(0, ways, (ways, queries)),
    )


@pytest.fixture
def run(tmp_path):
    records = [
        {"step": step, "split": "train", "accuracy": 0.2 + step / 100} for step in range(10, 60, 10)
    ]
    records += [
        {"step": 25, "split": "validation", "accuracy": 0.4, "accuracy_half": 0.05},
        {"step": 50, "split": "validation", "accuracy": 0.5, "accuracy_half": None},
    ]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in records)
    )
    return tmp_path


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_run_is_drawn(run, shape):
    picture = report.write(run, RESULTS, episode(shape))
    assert picture == run / "report.png"
    assert picture.stat().st_size > 20_000
    assert json.loads((run / "results.json").read_text()) == RESULTS


def test_a_method_without_inner_steps_is_drawn_as_levels():
    figure = new_axes()
    report.draw_steps(figure, {}, {"meta-trained": 0.9, "raw inputs": 0.6}, 0.2)
    labels = [text.get_text() for text in figure.get_legend().get_texts()]
    assert labels == ["meta-trained", "raw inputs", "chance"]


def test_training_is_smoothed_by_means_of_what_came_before():
    axes = new_axes()
    report.draw_training(axes, [(step, step / 40) for step in range(1, 41)], [])
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_allclose(drawn[:3], [2.5, 3.75, 6.25])  # of 40 points each is the mean of two


def test_frames_tell_right_from_wrong():
    from matplotlib.figure import Figure

    given = episode(SHAPES["image"], ways=2, queries=1)
    figure = Figure()
    report.draw_episode(figure, report.Episode(given.support, given.query, np.array([[0], [0]])))
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "taken for 1"]
    assert "50%" in figure.get_suptitle()


def test_an_episode_is_read_back(tmp_path):
    given = episode(SHAPES["window"])
    given.save(tmp_path / "episode.npz")
    read = report.Episode.read(tmp_path / "episode.npz")
    np.testing.assert_array_equal(read.query, given.query)
    np.testing.assert_array_equal(read.predicted, given.predicted)


def test_a_run_that_was_not_judged_is_refused(run):
    with pytest.raises(FileNotFoundError, match=r"lacks results\.json"):
        report.report(run)


def test_data_are_drawn(tmp_path):
    for name in ("digits", "watch"):
        report.show_data(data.load(name), tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000


def new_axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()
