"""Bad input to the core: one sentence each, before anything is compiled."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

import jaxmeta as jm
from jaxmeta.base import Examples
from jaxmeta.tasks import quadratic_learner

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def tasks():
    return problems.classified()


def estimate(bilevel, theta, tasks):
    return jm.unrolled().estimate(KEY, bilevel, theta, tasks, ())[0]


def bilevel(learner=None, bias=None):
    return jm.base.Bilevel(bias or jm.initialisation(), learner or problems.learner())


def test_a_loss_that_returns_a_vector(tasks):
    learner = problems.learner()
    broken = learner._replace(loss=lambda key, phi, batch: (jnp.ones(5), {}))
    with pytest.raises(
        ValueError, match=r"loss of a learner must be a real scalar, got shape \(5,\).*average it"
    ):
        estimate(bilevel(broken), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_a_loss_without_aux(tasks):
    broken = problems.learner()._replace(loss=lambda key, phi, batch: jnp.ones(()))
    with pytest.raises(ValueError, match=r"must return a pair \(scalar, aux\)"):
        estimate(bilevel(broken), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_an_outer_objective_that_returns_integers(tasks):
    broken = bilevel()._replace(
        outer=lambda key, learner, trajectory, task: (jnp.ones((), int), {})
    )
    with pytest.raises(ValueError, match="outer loss must be a real scalar"):
        estimate(broken, bilevel().init(KEY, problems.one(tasks)), tasks)


def test_labels_that_are_not_integers():
    with pytest.raises(
        ValueError, match="labels must be integers from 0 to ways - 1, got dtype float64"
    ):
        jm.cross_entropy(jnp.zeros((2, 3)), Examples(None, jnp.zeros(2)))


def test_logits_of_another_shape():
    with pytest.raises(
        ValueError, match=r"needs logits \[n, ways\] and labels \[n\], got shapes \(2,\) and \(2,\)"
    ):
        jm.cross_entropy(jnp.zeros(2), Examples(None, jnp.zeros(2, int)))
    with pytest.raises(ValueError, match=r"shape of the targets, \(2,\), got \(2, 1\)"):
        jm.squared_error(jnp.zeros((2, 1)), Examples(None, jnp.zeros(2)))


@pytest.mark.parametrize(
    "bias", [jm.initialisation(), jm.shared()], ids=["initialisation", "shared"]
)
def test_a_theta_of_another_structure(bias, tasks):
    theta = bias.init(KEY, problems.one(tasks), problems.learner())
    wider = jax.tree.map(lambda leaf: leaf, theta)
    wider["head"]["kernel"] = jnp.zeros((4, 9))
    with pytest.raises(
        ValueError, match=r"theta at 'head/kernel' must have shape \(4, 3\), got \(4, 9\)"
    ):
        estimate(bilevel(bias=bias), wider, tasks)
    del theta["body"]
    with pytest.raises(
        ValueError, match=r"theta must have a leaf at 'body/bias', of shape \(4,\), got none"
    ):
        estimate(bilevel(bias=bias), theta, tasks)
    theta["tail"] = jnp.zeros(2)
    theta["body"] = wider["body"]
    with pytest.raises(
        ValueError, match=r"theta must have no leaf at 'tail', got one of shape \(2,\)"
    ):
        estimate(bilevel(bias=bias), theta, tasks)


def test_a_theta_that_is_not_composed(tasks):
    bias = jm.compose(jm.initialisation(), jm.step_sizes())
    with pytest.raises(
        ValueError, match="theta of 2 composed biases must be a tuple of 2, got dict"
    ):
        estimate(bilevel(bias=bias), bilevel().init(KEY, problems.one(tasks)), tasks)
    with pytest.raises(ValueError, match="at least one bias"):
        jm.compose()


def test_a_where_that_means_nothing(tasks):
    with pytest.raises(ValueError, match="where must mean at least one leaf .* body/bias"):
        jm.initialisation(jm.named("haed")).init(KEY, problems.one(tasks), problems.learner())


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_steps_that_are_no_number_of_steps(steps, tasks):
    with pytest.raises(ValueError, match="steps of a learner must be"):
        estimate(bilevel(problems.learner(steps)), bilevel().init(KEY, problems.one(tasks)), tasks)


def test_zero_steps_are_no_adaptation(tasks):
    problem = bilevel(problems.learner(steps=0))
    theta = problem.init(KEY, problems.one(tasks))
    task = problems.one(tasks)
    shaped = problem.bias.shape(theta, task, problem.learner)
    end = jm.adapt(KEY, shaped, task)
    jax.tree.map(np.testing.assert_array_equal, end, theta)
    assert np.isfinite(estimate(problem, theta, tasks).loss)


def test_tasks_that_the_devices_do_not_divide():
    tasks = problems.classified(tasks=3)
    algorithm = problems.ALGORITHMS["maml"](jm.over_tasks(mesh=jm.task_mesh()))
    theta = jax.jit(algorithm.bilevel.init)(KEY, problems.one(tasks))
    with pytest.raises(
        ValueError, match="multiple of the 2 devices of the mesh, got 3; take 4 tasks"
    ):
        algorithm.estimator.estimate(KEY, algorithm.bilevel, theta, tasks, ())
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        jm.over_tasks(chunk=0)


def test_reptile_refuses_what_it_cannot_move(tasks):
    problem = bilevel(bias=jm.compose(jm.initialisation(), jm.step_sizes()))
    theta = problem.init(KEY, problems.one(tasks))
    with pytest.raises(
        ValueError, match="reptile moves only what sets the start of learning, got theta's leaf '1'"
    ):
        jm.estimator.reptile().init(KEY, problem, theta, tasks)


def test_a_diverging_inner_rate_is_reported_and_not_raised():
    tasks = problems.batch(jm.quadratics(3))
    problem = bilevel(quadratic_learner(1e30, steps=40))
    theta = problem.init(KEY, problems.one(tasks))
    result = jax.jit(lambda theta: estimate(problem, theta, tasks))(theta)
    assert not np.isfinite(result.info["losses"]).any()


def test_heads_in_closed_form_refuse_images():
    task = jm.Task(Examples(jnp.zeros((4, 8, 8, 1)), jnp.array([0, 0, 1, 1])), None)
    for head in (jm.prototypes(2), jm.ridge(2)):
        with pytest.raises(
            ValueError, match=r"needs inputs \[n, D\], got shape \(4, 8, 8, 1\).*representation"
        ):
            head.start(KEY, task)


def test_a_proximal_term_that_pushes_away():
    with pytest.raises(ValueError, match="strength of a proximal term must be above 0, got -1.0"):
        jm.proximal(-1.0)


MODEL = jm.models.mlp([4], 3)
POOL = jm.pool(np.arange(60.0).reshape(12, 5), np.arange(12) % 3)
EPISODES = jm.episodes(POOL, 3, 1, 2)
SMALL = jm.maml(jm.gradient(MODEL))


def fit(algorithm=SMALL, sample=EPISODES, optimiser=None, key=KEY, steps=2, **more):
    return jm.fit(
        key,
        algorithm,
        sample,
        optax.adam(1e-3) if optimiser is None else optimiser,
        steps,
        tasks=2,
        **more,
    )


def evaluate(key=KEY, bilevel=SMALL.bilevel, sample=EPISODES):
    theta = SMALL.bilevel.init(KEY, EPISODES(KEY))
    return jm.evaluation.evaluate(key, bilevel, theta, sample, 4)


def shifted(by):
    def sample(key):
        task = EPISODES(key)
        return task._replace(query=task.query._replace(y=task.query.y + by))

    return sample


ROLES = {
    "a model for a learner": (
        lambda: jm.maml(MODEL),
        "maml takes a Learner, got Model; make one, .*gradient",
    ),
    "a learner for an encoder": (
        lambda: jm.protonet(jm.gradient(MODEL), 3),
        "protonet takes a Model, .* got Learner",
    ),
    "the loss before the model": (
        lambda: jm.gradient(jm.cross_entropy, MODEL),
        "gradient .* got a function; the model comes first",
    ),
    "a pair for a model": (
        lambda: jm.gradient((MODEL.init, MODEL.apply)),
        r"got tuple; give jaxmeta.models.Model\(init, apply\)",
    ),
    "a pair for an encoder": (
        lambda: jm.representation((MODEL.init, MODEL.apply)),
        "representation takes a Model, .* got tuple",
    ),
    "a module without its adapter": (
        lambda: jm.gradient(flax.linen.Dense(3)),
        "got Dense; wrap the module by jaxmeta.models.linen",
    ),
    "the class of a module": (
        lambda: jm.gradient(flax.linen.Dense),
        "got the class Dense; wrap the module",
    ),
    "an apply of two arguments": (
        lambda: jm.gradient(jm.models.Model(MODEL.init, lambda params, x: x)),
        r"apply of a model must take \(params, x, reference\), got one of \(params, x\)",
    ),
    "a rate for an update": (
        lambda: jm.gradient(MODEL, jm.cross_entropy, 0.1),
        r"got float 0.1; give .* optax.adam\(0.1\)",
    ),
    "an update for a criterion": (
        lambda: jm.gradient(MODEL, optax.sgd(0.1)),
        "gradient takes as its criterion a function",
    ),
    "an int for a key of adapt": (
        lambda: jm.adapt(0, jm.gradient(MODEL), EPISODES(KEY)),
        "adapt takes one random key, got int 0",
    ),
    "many keys": (
        lambda: jm.adapt(jax.random.split(KEY), jm.gradient(MODEL), EPISODES(KEY)),
        "one random key, got an array key",
    ),
    "a model to be adapted": (
        lambda: jm.adapt(KEY, MODEL, EPISODES(KEY)),
        "adapt takes a Learner, got Model",
    ),
    "an int for a key of fit": (
        lambda: fit(key=3),
        r"fit takes one random key, got int 3; give jax.random.key\(3\)",
    ),
    "a model to be fitted": (
        lambda: fit(MODEL),
        "fit takes an Algorithm, got Model; make one, .*maml",
    ),
    "a rate for an optimiser": (
        lambda: fit(optimiser=1e-3),
        r"fit takes an optax transformation, got float 0.001",
    ),
    "a line search for an optimiser": (
        lambda: fit(optimiser=optax.lbfgs()),
        "outer optimiser .*'value_fn'.*without a line search",
    ),
    "arrays for a sampler": (
        lambda: fit(sample=(np.zeros((6, 5)), np.zeros(6))),
        r"sampler gives Tasks, got an array .*episodes",
    ),
    "a pool for a sampler": (lambda: fit(sample=POOL), "a sampler gives Tasks, got an array"),
    "a sampler of pairs": (
        lambda: fit(sample=lambda key: (jnp.zeros(3), jnp.zeros(3))),
        "a sampler gives Tasks, got tuple",
    ),
    "an algorithm to be evaluated": (
        lambda: evaluate(bilevel=SMALL),
        "evaluate takes a Bilevel, got Algorithm; give algorithm.bilevel",
    ),
    "an algorithm to be judged": (
        lambda: jm.outcome(KEY, SMALL, {}, EPISODES(KEY)),
        "outcome takes a Bilevel, got Algorithm",
    ),
    "a task where theta is": (
        lambda: jm.predict(KEY, SMALL.bilevel, EPISODES(KEY), {}),
        "predict takes a Task, got dict; make one",
    ),
    "a pair for a task": (
        lambda: jm.adapt(KEY, jm.gradient(MODEL), (jnp.zeros(3), jnp.zeros(3))),
        "adapt takes a Task, got tuple",
    ),
    "a model to begin with": (
        lambda: jm.begin(KEY, MODEL, EPISODES(KEY)),
        "begin takes a Learner, got Model",
    ),
    "an int for a key of advance": (
        lambda: jm.advance(0, jm.gradient(MODEL), EPISODES(KEY), None, 1),
        "advance takes one random key, got int 0",
    ),
    "an array for the task of a trajectory": (
        lambda: jm.trajectory(KEY, jm.gradient(MODEL), jnp.zeros(3)),
        "trajectory takes a Task, got an array",
    ),
    "an estimator without a name": (
        lambda: jm.compare(KEY, [jm.unrolled()], SMALL.bilevel, {}, EPISODES(KEY)),
        "compare takes estimators by name, got list; give",
    ),
    "a function for an estimator": (
        lambda: jm.compare(KEY, {"unrolled": jm.unrolled}, SMALL.bilevel, {}, EPISODES(KEY)),
        "compare takes estimators by name, got a function",
    ),
    "an int for a key of evaluate": (
        lambda: evaluate(key=1),
        "evaluate takes one random key, got int 1",
    ),
}


@pytest.mark.parametrize("name", ROLES)
def test_an_argument_in_the_wrong_role_gets_a_sentence(name):
    wrong, sentence = ROLES[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            lambda: fit(epochs=3),
            "fit has no argument epochs; there are no epochs, tasks are drawn: steps",
        ),
        (lambda: fit(lr=3), "fit has no argument lr; the outer rate is the optimiser's"),
        (lambda: fit(valdation=EPISODES), "fit has no argument valdation; did you mean validation"),
        (
            lambda: jm.maml(jm.gradient(MODEL), lr=0.1),
            "maml has no argument lr; it is the learner's: jaxmeta.gradient",
        ),
        (
            lambda: jm.gradient(MODEL, lr=0.1),
            r"gradient has no argument lr; the rate is the update's: update=optax.sgd",
        ),
    ],
)
def test_a_keyword_of_other_libraries_is_answered_with_ours(wrong, sentence):
    with pytest.raises(TypeError, match=sentence):
        wrong()


def test_labels_of_an_inductive_query_are_looked_at_too():
    inductive = jm.maml(jm.gradient(MODEL), outer=jm.inductive(jm.query_loss))
    for run in (
        lambda: fit(inductive, sample=shifted(1)),
        lambda: evaluate(bilevel=inductive.bilevel, sample=shifted(1)),
    ):
        with pytest.raises(ValueError, match="labels must be from 0 to 2 for 3 classes, got 3;"):
            run()


def test_an_inductive_query_of_stacked_batches_is_refused():
    task = EPISODES(KEY)
    stacked = task._replace(support=jax.tree.map(lambda leaf: leaf[None], task.support))
    bias = jm.compose(jm.batch_by_step(), jm.initialisation())
    problem = jm.base.Bilevel(bias, jm.gradient(MODEL), jm.inductive(jm.query_loss))
    with pytest.raises(
        ValueError, match=r"got inputs \[1, 3, 5\] of the support and \[6, 5\] of the query"
    ):
        jm.outcome(KEY, problem, ((), SMALL.bilevel.init(KEY, task)), stacked)


def test_a_parameter_that_is_no_number():
    model = jm.models.Model(
        lambda key, x: {"w": jnp.zeros((5, 3)), "kind": "relu"},
        lambda params, x, reference=None: x @ params["w"],
    )
    with pytest.raises(
        ValueError, match="parameters must be arrays or numbers, got str 'relu'; close over it"
    ):
        jm.begin(KEY, jm.gradient(model), EPISODES(KEY))


@pytest.mark.parametrize(("by", "label"), [(-1, -1), (1, 3)])
def test_labels_that_are_no_class_are_refused_where_a_drawn_task_shows_them(by, label):
    sentence = f"labels must be from 0 to 2 for 3 classes, got {label};"
    for run in (
        lambda: fit(sample=shifted(by)),
        lambda: fit(validation=shifted(by)),
        lambda: evaluate(sample=shifted(by)),
        lambda: fit(sample=[jax.vmap(shifted(by))(jax.random.split(KEY, 2))] * 2),
    ):
        with pytest.raises(ValueError, match=sentence):
            run()
    task = shifted(by)(KEY)
    with pytest.raises(ValueError, match=sentence):
        jm.adapt(KEY, jm.gradient(MODEL), task._replace(support=task.query))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("evaluate", "it is jaxmeta.evaluation.evaluate$"),
        ("support_vectors", "it is jaxmeta.learner.support_vectors$"),
        ("MAML", "did you mean jaxmeta.maml"),
        ("Tree", "it is jaxmeta.hierarchy.Tree$"),
        ("kronecker", "it is jaxmeta.bias.kronecker or jaxmeta.tying.kronecker$"),
        ("optax", "no attribute 'optax'$"),
    ],
)
def test_a_name_that_is_not_at_the_top_says_where_it_lives(name, sentence):
    with pytest.raises(AttributeError, match=sentence):
        getattr(jm, name)
