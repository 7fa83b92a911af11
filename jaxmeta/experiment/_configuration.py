"""What defines a run, flat and JSON-able; and how its open ends are filled and its mistakes
refused."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from jaxmeta import _check
from jaxmeta._registry import chosen
from jaxmeta.data import Dataset
from jaxmeta.experiment._methods import METHODS
from jaxmeta.experiment._nets import MODELS, NORMS
from jaxmeta.tasks import Variants, each_of, original, reflections, rotations


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What is learned, from what and how; on which devices it runs is not part of it.

    None means the default, which `complete` fills in: of the method (`METHODS`), of the kind of
    data, or, for evaluation, what training has.

    Attributes:
      algorithm: A key of `METHODS`.
      data: A set of `jaxmeta.data.catalogue`.
      model: A key of `MODELS`; default the method's for images (most often 'conv4') and 'conv1d'
        for windows.
      width: Channels of the model's (first) layers.
      norm: A key of `NORMS`.
      ways: Classes in a training episode.
      shots: Support examples a class in training; default the method's, mostly 1.
      queries: Query examples a class.
      evaluation_ways, evaluation_shots: Those of validation and test; default those of training, 1
        where shots is not given.
      rotations: Whether images turned by 90, 180 and 270 degrees are classes of their own, in
        training.
      reflections: Whether their mirror images are.
      evaluation_rotations: Whether turned images are classes of their own in validation and test
        too, as in the papers on Omniglot; without them 20-way episodes are harder.
      warps: Whether images are bent at random in training, see `jaxmeta.tasks.warps`.
      inductive: Whether a query is normalised by the support's statistics alone, not by its fellow
        queries'.
      inner_rate, evaluation_rate: Step size of the low level in training, in test. It goes with the
        ways: the loss is a mean over the support, so that with a quarter of the ways a class's own
        step is four times as long.
      inner_steps, evaluation_steps: Steps of the low level in training, in validation and test.
      outer_rate: Step size of the high level.
      tasks: Episodes a meta-batch.
      steps: Meta-batches.
      seed: Of all that is random.
      inputs: Shape of one input, without n; filled from the data.
      classes: In the training split, turned and mirrored ones included; filled from the data.
      centre, scale: Of each channel of windows, taken from the training split, in the source's
        unit; None for images.
    """

    algorithm: str = "maml"
    data: str = "glyphs"
    model: str | None = None
    width: int = 32
    norm: str | None = None
    ways: int = 5
    shots: int | None = None
    queries: int = 5
    evaluation_ways: int | None = None
    evaluation_shots: int | None = None
    rotations: bool = False
    reflections: bool = False
    evaluation_rotations: bool = False
    warps: bool = False
    inductive: bool = False
    inner_rate: float | None = None
    evaluation_rate: float | None = None
    inner_steps: int | None = None
    evaluation_steps: int | None = None
    outer_rate: float | None = None
    tasks: int | None = None
    steps: int = 600
    seed: int = 0
    inputs: tuple[int, ...] | None = None
    classes: int | None = None
    centre: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    @classmethod
    def of(cls, fields: dict) -> Configuration:
        """The configuration of a dict, as `dataclasses.asdict` and JSON give it back."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in fields:
            chosen("setting of a configuration", name, known)
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in fields.items()
            }
        )

    @classmethod
    def recorded(cls, fields: dict, where: object = "the record") -> Configuration:
        """The complete configuration that a run was made with, as it was written down; nothing is
        filled in.

        Raises:
          ValueError: If a setting is unknown, or one is missing: no default says how that run was
            made.
        """
        # Older records lack these, and this is what they meant.
        said = {
            "reflections": False,
            "evaluation_rotations": False,
            "warps": False,
            "evaluation_rate": fields.get("inner_rate"),
            **fields,
        }
        spare = {"steps", "classes"} | (
            {"centre", "scale"} if len(said.get("inputs") or ()) == 3 else set()
        )
        unsaid = [
            field.name
            for field in dataclasses.fields(cls)
            if field.name not in spare and said.get(field.name) is None
        ]
        if unsaid:
            more = f" and {len(unsaid) - 3} more" if len(unsaid) > 3 else ""
            raise ValueError(
                f"{where} must say all that its run was made with, got nothing for "
                f"{', '.join(unsaid[:3])}{more}; write it down as dataclasses.asdict of a complete "
                "Configuration has it, or judge theta from Python with jaxmeta.evaluation.evaluate"
            )
        return cls.of(said)


_LEAST = {
    "width": 1,
    "ways": 2,
    "shots": 1,
    "queries": 1,
    "evaluation_ways": 2,
    "evaluation_shots": 1,
    "inner_steps": 0,
    "evaluation_steps": 0,
    "tasks": 1,
    "steps": 1,
    "seed": 0,
}


def complete(configuration: Configuration, dataset: Dataset) -> Configuration:
    """The configuration without open ends, for this data.

    Raises:
      ValueError: If a name is unknown, a number is out of its range, or the model is not one for
        such inputs.

    >>> from jaxmeta import data
    >>> full = complete(Configuration(data="digits", ways=2), data.load("digits"))
    >>> full.model, full.inner_rate, full.evaluation_ways, full.inputs
    ('conv4', 0.4, 2, (28, 28, 1))
    """
    method = METHODS[configuration.algorithm]
    images = dataset.inputs.ndim == 4
    train = dataset.split("train")
    centre, scale = (None, None) if train.inputs.dtype == np.uint8 else _statistics(train.inputs)
    inner_rate = (
        method.inner_rate[0 if images else 1]
        if configuration.inner_rate is None
        else configuration.inner_rate
    )
    shots = method.shots[0 if images else 1] if configuration.shots is None else configuration.shots
    defaults = dict(
        shots=shots,
        evaluation_shots=1 if configuration.shots is None else shots,
        model=method.image_model if images else "conv1d",
        norm=method.norm,
        evaluation_ways=configuration.ways,
        inner_rate=inner_rate,
        evaluation_rate=inner_rate,
        inner_steps=method.inner_steps,
        evaluation_steps=method.evaluation_steps,
        outer_rate=method.outer_rate,
        tasks=method.tasks,
        inputs=dataset.inputs.shape[1:],
        classes=len(train.class_names) * variants(configuration).count,
        centre=centre,
        scale=scale,
    )
    return checked(
        dataclasses.replace(
            configuration,
            **{
                name: value
                for name, value in defaults.items()
                if getattr(configuration, name) is None
            },
        )
    )


def checked(full: Configuration) -> Configuration:
    """Returns a configuration without open ends; refuses its mistakes, as `complete` does."""
    method = METHODS[full.algorithm]
    net = MODELS[full.model]
    chosen("norm", full.norm, NORMS)
    if len(full.inputs) not in net.axes:
        fitting = [name for name, other in MODELS.items() if len(full.inputs) in other.axes]
        raise ValueError(
            f"model '{full.model}' is not for inputs of shape {list(full.inputs)}, which "
            f"'{full.data}' has; choose one of {', '.join(fitting)}"
        )
    for name in ("rotations", "reflections", "evaluation_rotations", "warps"):
        if getattr(full, name) and len(full.inputs) != 3:
            raise ValueError(f"{name} are of images, and '{full.data}' has windows; leave them out")
    for name, least in _LEAST.items():
        _check.whole_number(name, getattr(full, name), least)
    if full.evaluation_ways > full.ways and not method.extends:
        raise ValueError(
            f"the head of {full.algorithm} does not adapt, so that it cannot serve more ways than "
            f"the {full.ways} it is trained for, got {full.evaluation_ways}; train with more ways"
        )
    for name, open_end in {
        "inner_rate": True,
        "evaluation_rate": True,
        "outer_rate": False,
    }.items():
        value = getattr(full, name)
        if not (math.isfinite(value) and (value >= 0 if open_end else value > 0)):
            raise ValueError(
                f"{name} must be {'at least' if open_end else 'above'} 0 and finite, got {value}"
            )
    return full


def variants(configuration: Configuration) -> Variants:
    """What makes several classes of one in training."""
    kinds = {rotations: configuration.rotations, reflections: configuration.reflections}
    return functools.reduce(each_of, [kind for kind, wanted in kinds.items() if wanted], original)


def _statistics(windows):
    """Mean and standard deviation of each channel over examples and time; a channel that is
    constant is left unscaled."""
    axes = tuple(range(windows.ndim - 1))
    centre, scale = windows.mean(axes, dtype=np.float64), windows.std(axes, dtype=np.float64)
    return tuple(centre.tolist()), tuple(np.where(scale > 0, scale, 1.0).tolist())
