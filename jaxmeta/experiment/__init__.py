"""From one flat configuration to everything that a run needs: the one place that train, evaluate
and benchmarks share.

`complete` fills a `Configuration`'s open ends, `build` makes the `Experiment` that `jaxmeta.fit`
takes, `judge` measures what came of it against learning without meta-learning.
"""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.experiment._baseline import from_scratch as from_scratch, raw_means as raw_means
    from jaxmeta.experiment._build import (
        Evaluation as Evaluation,
        Experiment as Experiment,
        build as build,
        checked_inputs as checked_inputs,
        evaluation as evaluation,
        judged as judged,
        mapper as mapper,
        shapes as shapes,
        trained as trained,
        training_sampler as training_sampler,
    )
    from jaxmeta.experiment._configuration import (
        Configuration as Configuration,
        checked as checked,
        complete as complete,
    )
    from jaxmeta.experiment._heads import at_other_ways as at_other_ways
    from jaxmeta.experiment._judge import (
        at_evaluation as at_evaluation,
        judge as judge,
        play as play,
    )
    from jaxmeta.experiment._lake import (
        OneShotErrors as OneShotErrors,
        one_shot_errors as one_shot_errors,
        one_shot_trials as one_shot_trials,
    )
    from jaxmeta.experiment._method import Level as Level, Method as Method
    from jaxmeta.experiment._methods import METHODS as METHODS
    from jaxmeta.experiment._nets import (
        MODELS as MODELS,
        NORMS as NORMS,
        Net as Net,
        Norm as Norm,
    )
    from jaxmeta.experiment._predict import (
        predictions as predictions,
        probabilities as probabilities,
    )
    from jaxmeta.experiment.tyings import Sharing as Sharing, sharing as sharing
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
