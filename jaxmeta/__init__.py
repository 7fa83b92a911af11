"""jaxmeta: functional metalearning in JAX.

A **bias** (high level) shapes a **learner** (low level); a **task** supplies the learner's data; an
**estimator** says how the outcome's derivative reaches the bias; a **hierarchy** says which tasks
and concepts share which part of it, and a **tying** says how the shared part becomes each node's
parameters.

A learner has five places, and a budget, that a bias can touch, and a voice. This is the whole
taxonomy of metalearning:

| field     | meaning                           | what acts on it                                  |
|-----------|-----------------------------------|--------------------------------------------------|
| `start`   | where low-level learning begins   | `initialisation` (MAML), `representation` (ANIL) |
| `sees`    | what a step sees of the support   | example weights, distilled data, minibatches     |
| `loss`    | what is measured                  | `shared` (BOIL's head), `context` (CAVIA)        |
| `penalty` | what is preferred                 | `proximal` (iMAML)                               |
| `update`  | how it moves                      | `step_sizes` (Meta-SGD), `preconditioner`        |
| `steps`   | how long it learns                | evaluation budgets, curricula                    |
| `predict` | what it says of unlabelled inputs | evaluation, calibration, a user's own use        |

`hyperparameters` sets whatever a learner is made with. An algorithm is a bilevel problem and an
estimator (`jaxmeta.algorithms`). The process takes its gradient and its scan as arguments:
estimators that go through it differ in these two alone, in how inner gradients are differentiated
and in what of the steps is stored. Tasks are mapped in one place (`jaxmeta.parallel`). Imports go
one way: base <- process, parallel <- learner, models, objective <- hierarchy <- tying <- tasks <-
bias <- estimator <- algorithms, evaluation <- training <- experiment <- report <- cli.
"""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jaxmeta import (
        algorithms as algorithms,
        bias as bias,
        data as data,
        estimator as estimator,
        evaluation as evaluation,
        hierarchy as hierarchy,
        learner as learner,
        models as models,
        report as report,
        tasks as tasks,
        training as training,
        tying as tying,
    )
    from jaxmeta._programs import cache as cache
    from jaxmeta._pytree import (
        everything as everything,
        excluding as excluding,
        named as named,
        take as take,
    )
    from jaxmeta.algorithms import (
        alfa as alfa,
        anil as anil,
        baseline_plus_plus as baseline_plus_plus,
        black_box as black_box,
        boil as boil,
        bootstrapped_maml as bootstrapped_maml,
        cavia as cavia,
        fomaml as fomaml,
        imaml as imaml,
        l2f as l2f,
        leo as leo,
        local_matching_net as local_matching_net,
        maml as maml,
        maml_plus_plus as maml_plus_plus,
        matching_net as matching_net,
        meta_curvature as meta_curvature,
        meta_sgd as meta_sgd,
        metaoptnet as metaoptnet,
        msr as msr,
        proto_maml as proto_maml,
        protonet as protonet,
        r2d2 as r2d2,
        relation_net as relation_net,
        reptile as reptile,
        scaled_protonet as scaled_protonet,
        snail as snail,
        soft_tree_maml as soft_tree_maml,
        t_net as t_net,
        tree_maml as tree_maml,
    )
    from jaxmeta.base import (
        Algorithm as Algorithm,
        Bias as Bias,
        Bilevel as Bilevel,
        Estimate as Estimate,
        Estimator as Estimator,
        Examples as Examples,
        Learner as Learner,
        Task as Task,
        Trajectory as Trajectory,
        query_loss as query_loss,
    )
    from jaxmeta.bias import (
        batch_by_step as batch_by_step,
        compose as compose,
        context as context,
        element as element,
        fixed as fixed,
        hyperparameters as hyperparameters,
        initialisation as initialisation,
        minibatches as minibatches,
        momentum as momentum,
        preconditioner as preconditioner,
        proximal as proximal,
        representation as representation,
        seen as seen,
        shared as shared,
        step_sizes as step_sizes,
    )
    from jaxmeta.estimator import (
        auto as auto,
        binomial as binomial,
        cg as cg,
        each_step as each_step,
        evolution as evolution,
        finite_difference as finite_difference,
        first_order as first_order,
        forward as forward,
        implicit as implicit,
        linearising as linearising,
        mixed as mixed,
        neumann as neumann,
        nres as nres,
        nystrom as nystrom,
        one_step as one_step,
        pes as pes,
        rebuilding as rebuilding,
        recomputing as recomputing,
        reversible as reversible,
        sama as sama,
        saving as saving,
        segments as segments,
        t1t2 as t1t2,
        truncated as truncated,
        unrolled as unrolled,
    )
    from jaxmeta.evaluation import compare as compare
    from jaxmeta.learner import (
        adam as adam,
        cross_entropy as cross_entropy,
        gradient as gradient,
        prototypes as prototypes,
        ridge as ridge,
        ridge_regression as ridge_regression,
        squared_error as squared_error,
    )
    from jaxmeta.parallel import over_tasks as over_tasks, task_mesh as task_mesh
    from jaxmeta.process import (
        adapt as adapt,
        advance as advance,
        begin as begin,
        no_penalty as no_penalty,
        outcome as outcome,
        predict as predict,
        trajectory as trajectory,
    )
    from jaxmeta.tasks import (
        episodes as episodes,
        inductive as inductive,
        pool as pool,
        quadratics as quadratics,
        rotations as rotations,
        sinusoids as sinusoids,
        stream as stream,
    )
    from jaxmeta.training import fit as fit
else:
    _load, __dir__, __all__ = attach(__name__, __file__)

    def __getattr__(name: str):
        try:
            return _load(name)
        except AttributeError as error:
            meant = "" if name.startswith("_") else _meant(name)
            raise AttributeError(f"{error}{meant}") from None


def _meant(name: str) -> str:
    """Where a name lives that is not at the top, or the names most like it."""
    import difflib
    import importlib
    import pkgutil

    folders = [each.name for each in pkgutil.iter_modules(__path__) if each.ispkg]
    public = {
        folder: dir(importlib.import_module(f"jaxmeta.{folder}"))
        for folder in folders
        if not folder.startswith("_")
    }
    if homes := [f"jaxmeta.{folder}.{name}" for folder, names in public.items() if name in names]:
        return f"; it is {' or '.join(homes)}"
    known = {
        **{each.lower(): f"{folder}.{each}" for folder, names in public.items() for each in names},
        **{each.lower(): each for each in __dir__()},
    }
    close = difflib.get_close_matches(name.lower(), known, 2, 0.7)
    meant = " or ".join(f"jaxmeta.{known[each]}" for each in close)
    return f"; did you mean {meant}?" if close else ""
