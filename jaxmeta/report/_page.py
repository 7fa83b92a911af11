"""The page that shows a run: one picture from the run's files."""

from __future__ import annotations

import json
from pathlib import Path

from jaxmeta import _extras
from jaxmeta.report._curves import draw_steps, draw_training
from jaxmeta.report._episode import Episode, draw_episode

_RESULTS, _EPISODE, _PICTURE = "results.json", "episode.npz", "report.png"
_NAMES = {
    "trained": "meta-trained",
    "untrained": "untrained",
    "from_scratch": "from scratch, by Adam",
    "raw_means": "raw inputs, nearest mean",
}


def write(folder: str | Path, results: dict, episode: Episode) -> Path:
    """Writes what `jaxmeta.experiment.judge` and `play` found into a run's folder, and its picture;
    returns the latter.

    Args:
      folder: Of the run.
      results: As `judge` gives them.
      episode: To show.
    """
    folder = Path(folder)
    (folder / _RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    episode.save(folder / _EPISODE)
    return report(folder)


def report(folder: str | Path) -> Path:
    """Draws a run's training, its learning within an episode, and an episode, from the files in its
    folder.

    Args:
      folder: Of a run that has been judged: with metrics.jsonl, results.json and episode.npz.

    Returns:
      The picture's path, `folder/report.png`.

    Raises:
      FileNotFoundError: If one of the three is not there.
    """
    folder = Path(folder)
    missing = [
        name for name in ("metrics.jsonl", _RESULTS, _EPISODE) if not (folder / name).is_file()
    ]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {missing[0]}; give the folder of a run that jaxmeta train has finished"
        )
    results = json.loads((folder / _RESULTS).read_text(encoding="utf-8"))
    records = [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    figure = new_figure(12, 10)
    curves, shown = figure.subfigures(2, 1, height_ratios=(1, 1.35))
    left, right = curves.subplots(1, 2)
    # A method without inner steps has one point, which is drawn as a level.
    curves_of = {name: values for name, values in results["curves"].items() if len(values) > 1}
    draw_training(left, *_accuracies(records))
    draw_steps(
        right,
        {text: curves_of[name] for name, text in _NAMES.items() if name in curves_of},
        {text: results[name]["accuracy"] for name, text in _NAMES.items() if name not in curves_of},
        1 / results["ways"],
    )
    trained = results["trained"]
    curves.suptitle(
        f"{results['ways']}-way {results['shots']}-shot on new classes: "
        f"{100 * trained['accuracy']:.1f} ± {100 * trained['half']:.1f} % over "
        f"{results['episodes']} test episodes",
        fontsize=13,
    )
    draw_episode(shown, Episode.read(folder / _EPISODE))
    figure.savefig(folder / _PICTURE, dpi=110)
    return folder / _PICTURE


def new_figure(width: float, height: float):
    """An empty figure in inches, drawn without a screen and without touching pyplot's state."""
    with _extras.needed("a picture"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _accuracies(records: list[dict]):
    """(meta-batch, accuracy) of training, and (meta-batch, mean, lower, upper) of validation."""
    train = [
        (record["step"], record["accuracy"]) for record in records if record["split"] == "train"
    ]
    validation = [
        (record["step"], record["accuracy"], *_ends(record))
        for record in records
        if record["split"] == "validation"
    ]
    return train, validation


def _ends(record: dict) -> tuple[float, float]:
    half = record["accuracy_half"] or 0.0  # None where a single episode gave no interval
    return record["accuracy"] - half, record["accuracy"] + half
