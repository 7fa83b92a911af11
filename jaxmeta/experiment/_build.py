"""The experiment that a configuration describes: algorithm, samplers, outer optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta._registry import resolved
from jaxmeta.base import Algorithm, Bilevel, Examples, Task, query_loss
from jaxmeta.data import Dataset
from jaxmeta.experiment._configuration import Configuration, variants
from jaxmeta.experiment._method import Level
from jaxmeta.experiment._methods import METHODS
from jaxmeta.experiment._nets import MODELS, NORMS
from jaxmeta.parallel import Mapper, divisor, over_tasks, task_mesh
from jaxmeta.tasks import augmented, episodes, inductive, original, pool, rotations, warps


class Evaluation(NamedTuple):
    """How a theta is judged: the bilevel problem with evaluation's ways, rate and steps, and the
    sampler of its episodes."""

    bilevel: Bilevel
    sample: Callable


class Experiment(NamedTuple):
    """All that `jaxmeta.fit` and `jaxmeta.evaluation` take.

    Args:
      algorithm: What is trained.
      optimiser: The outer optimiser.
      sample: The sampler of training episodes.
      validation: The sampler of episodes that `fit` validates on: held-out classes or persons,
        training's ways and steps, evaluation's shots.
      test: How it is judged at the end, on classes or persons that nothing was chosen by.
    """

    algorithm: Algorithm
    optimiser: optax.GradientTransformation
    sample: Callable
    validation: Callable
    test: Evaluation


def build(configuration: Configuration, dataset: Dataset, over: Mapper | None = None) -> Experiment:
    """The experiment of a complete configuration.

    Args:
      configuration: From `complete`.
      dataset: The whole set, with its splits.
      over: How tasks are mapped in training, from `mapper`.

    Raises:
      ValueError: If a split has too few classes for the ways, or too few examples for shots and
        queries.
    """
    return Experiment(
        trained(configuration, over),
        resolved(METHODS[configuration.algorithm].optimiser)(
            configuration.outer_rate, configuration.steps
        ),
        training_sampler(configuration, dataset),
        _evaluation_sampler(configuration, dataset, "validation", configuration.ways),
        evaluation(configuration, dataset, "test"),
    )


def training_sampler(configuration: Configuration, dataset: Dataset):
    """Training tasks as the method wants them, with the variants and warps of the configuration."""
    sample = sampler(
        configuration,
        dataset,
        "train",
        configuration.ways,
        configuration.shots,
        resolved(METHODS[configuration.algorithm].sample),
        variants=variants(configuration),
    )
    return augmented(sample, warps()) if configuration.warps else sample


def trained(configuration: Configuration, over: Mapper | None = None) -> Algorithm:
    """The algorithm as it is trained."""
    return _algorithm(
        configuration, configuration.ways, configuration.inner_rate, configuration.inner_steps, over
    )


def evaluation(configuration: Configuration, dataset: Dataset, split: str) -> Evaluation:
    """How a theta of this configuration is judged on a split."""
    return Evaluation(
        judged(configuration),
        _evaluation_sampler(configuration, dataset, split, configuration.evaluation_ways),
    )


def _evaluation_sampler(configuration: Configuration, dataset: Dataset, split: str, ways: int):
    return sampler(
        configuration,
        dataset,
        split,
        ways,
        configuration.evaluation_shots,
        variants=rotations if configuration.evaluation_rotations else original,
    )


def judged(configuration: Configuration) -> Bilevel:
    """The bilevel problem with evaluation's ways, rate and steps."""
    return _algorithm(
        configuration,
        configuration.evaluation_ways,
        configuration.evaluation_rate,
        configuration.evaluation_steps,
    ).bilevel


def _algorithm(
    configuration: Configuration, ways: int, rate: float, steps: int, over: Mapper | None = None
) -> Algorithm:
    level = Level(ways, rate, steps, configuration.classes, configuration.shots)
    outer = inductive(query_loss) if configuration.inductive else query_loss
    build = resolved(METHODS[configuration.algorithm].build)
    return build(model(configuration), level, over, outer)


def model(configuration: Configuration):
    """The configuration's net, `outputs -> Model`."""
    make, norm = (
        resolved(record.make) for record in (MODELS[configuration.model], NORMS[configuration.norm])
    )
    return lambda outputs: make(outputs, configuration.width, norm=norm)


def sampler(
    configuration: Configuration,
    dataset: Dataset,
    split: str,
    ways: int,
    shots: int,
    sample=episodes,
    **variants,
):
    """Tasks of a split: episodes of classes from anywhere in it, or, where it is split by person,
    all of one person. Support and query are of different recordings or bouts where the data tell
    them (`jaxmeta.data.Dataset.apart`)."""
    checked_inputs(configuration, dataset.name, dataset.inputs.shape[1:])
    part = dataset.split(split)
    inputs = part.inputs
    if configuration.centre is not None:
        inputs = (
            (inputs - np.asarray(configuration.centre)) / np.asarray(configuration.scale)
        ).astype(np.float32)
    try:
        examples = pool(
            inputs, part.labels, part.groups if dataset.by == "group" else None, part.apart
        )
        return sample(examples, ways, shots, configuration.queries, **variants)
    except ValueError as error:
        raise ValueError(f"'{part.name}': {error}") from error


def checked_inputs(configuration: Configuration, name: str, shape: tuple[int, ...]) -> None:
    """Refuses data whose inputs have another shape than the configuration's."""
    if shape != configuration.inputs:
        raise ValueError(
            f"the run was trained on inputs of shape {list(configuration.inputs)} "
            f"('{configuration.data}'), and '{name}' has {list(shape)}; choose data of the same "
            "shape"
        )


def shapes(configuration: Configuration, ways: int) -> Task:
    """The shapes of a one-shot task, from which theta's follow without any data."""
    part = Examples(
        jax.ShapeDtypeStruct((ways, *configuration.inputs), jnp.float32),
        jax.ShapeDtypeStruct((ways,), jnp.int32),
    )
    return Task(part, part, jax.ShapeDtypeStruct((), jnp.int32))


def mapper(tasks: int | None = None, chunk: int | None = None) -> Mapper:
    """Shares tasks out over the devices: all of them, or as many as divide `tasks`; `chunk` as in
    `jaxmeta.over_tasks`."""
    devices = jax.devices()
    if tasks is not None:
        devices = devices[: divisor(tasks, len(devices))]
    return over_tasks(chunk, task_mesh(devices))
