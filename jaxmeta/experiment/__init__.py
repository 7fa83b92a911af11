"""From one flat configuration to everything that a run needs: the one place that train, evaluate
and benchmarks share.

`complete` fills a `Configuration`'s open ends, `build` makes the `Experiment` that `jaxmeta.fit`
takes, `judge` measures what came of it against learning without meta-learning.
"""

from jaxmeta.experiment._baseline import from_scratch, raw_means
from jaxmeta.experiment._build import (
    Evaluation,
    Experiment,
    build,
    checked_inputs,
    evaluation,
    judged,
    mapper,
    shapes,
    trained,
    training_sampler,
)
from jaxmeta.experiment._configuration import Configuration, checked, complete
from jaxmeta.experiment._heads import at_other_ways
from jaxmeta.experiment._judge import at_evaluation, judge, play
from jaxmeta.experiment._lake import OneShotErrors, one_shot_errors, one_shot_trials
from jaxmeta.experiment._methods import METHODS, MODELS, NORMS, Method
from jaxmeta.experiment._predict import predictions, probabilities

__all__ = [
    "METHODS",
    "MODELS",
    "NORMS",
    "Configuration",
    "Evaluation",
    "Experiment",
    "Method",
    "OneShotErrors",
    "at_evaluation",
    "at_other_ways",
    "build",
    "checked",
    "checked_inputs",
    "complete",
    "evaluation",
    "from_scratch",
    "judge",
    "judged",
    "mapper",
    "one_shot_errors",
    "one_shot_trials",
    "play",
    "predictions",
    "probabilities",
    "raw_means",
    "shapes",
    "trained",
    "training_sampler",
]
