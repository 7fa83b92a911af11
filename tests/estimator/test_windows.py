"""Windows of long inner runs: their derivative, what is carried from one to the next, and the
contract of carried state."""

import types

import chex
import jax
import jax.numpy as jnp
import long_runs
import numpy as np
import optax
import problems
import pytest
from long_runs import KEY, STEPS, THETA, WINDOW

import jaxmeta as jm
from jaxmeta.base import Algorithm, Bilevel
from jaxmeta.estimator import afresh, basis, fresh, gaussian


def windows(estimator, problem, theta, tasks, count=1):
    """`(estimate, state)` of each of `count` outer steps, theta standing still; one compilation."""
    step = jax.jit(lambda state: estimator.estimate(KEY, problem, theta, tasks, state))
    state, results = estimator.init(KEY, problem, theta, tasks), []
    for _ in range(count):
        results.append(step(state))
        state = results[-1][1]
    return results


def test_a_window_of_all_steps_is_the_unrolled_derivative():
    problem, tasks = long_runs.random_bilevel(3), long_runs.tasks()
    theta = problem.init(KEY, problems.one(tasks))
    (held, _), (whole, _), (exact, _) = (
        windows(estimator, problem, theta, tasks)[0]
        for estimator in (jm.truncated(3), jm.truncated(3, afresh), jm.unrolled())
    )
    chex.assert_trees_all_close(held, exact, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(whole, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("window", [1, 3, STEPS - 1])
def test_afresh_is_the_derivative_through_the_last_steps_of_each_run(window):
    ((ours, state),) = windows(
        jm.truncated(window, afresh), long_runs.bilevel(), THETA, long_runs.tasks()
    )
    exact, phi = long_runs.by_hand(STEPS, STEPS - window)
    np.testing.assert_allclose(ours.grad["log_rate"], exact, rtol=1e-12)
    away = phi - long_runs.tasks().query.centre
    np.testing.assert_allclose(
        ours.info["losses"], 0.5 * away**2 @ np.array([1.0, 0.05]), rtol=1e-12
    )
    assert state == ()


@pytest.mark.parametrize(
    "window, estimator", [(2, jm.truncated(2)), (1, jm.one_step())], ids=["two steps", "one step"]
)
def test_runs_go_on_from_window_to_window_and_begin_anew(window, estimator):
    results = windows(estimator, long_runs.bilevel(steps=4), THETA, long_runs.tasks(), 5)
    for number, (estimate, state) in enumerate(results, 1):
        taken = (number * window - 1) % 4 + 1
        exact, phi = long_runs.by_hand(taken, taken - window)
        np.testing.assert_allclose(state.position.phi, phi, rtol=1e-12)
        np.testing.assert_allclose(estimate.grad["log_rate"], exact, rtol=1e-11)
        np.testing.assert_array_equal(state.steps, taken % 4)


def test_windows_of_a_run_end_where_the_whole_run_does():
    # Momenta are carried too.
    learner, tasks = (
        long_runs.learner(jnp.zeros(()), 6)._replace(update=optax.sgd(0.3, momentum=0.9)),
        long_runs.tasks(),
    )
    problem = Bilevel(jm.fixed(jm.proximal(1.0)), learner)
    results = windows(jm.truncated(2), problem, (), tasks, 3)
    for steps, (_, state) in zip((2, 4, 6), results):
        shaped = problem.bias.shape((), None, learner._replace(steps=steps))
        whole = jax.jit(jax.vmap(lambda task: jm.adapt(KEY, shaped, task)))(tasks)
        np.testing.assert_allclose(state.position.phi, whole, rtol=1e-12)


def test_only_a_window_that_begins_anew_is_differentiated_through_the_start():
    problem = Bilevel(jm.initialisation(), long_runs.learner(jnp.zeros(()), steps=4))
    results = windows(jm.truncated(2), problem, jnp.array([1.0, 4.5]), long_runs.tasks(), 3)
    norms = [float(jnp.linalg.norm(estimate.grad)) for estimate, _ in results]
    assert norms[0] > 0.1 and norms[1] == 0 and norms[2] == norms[0]


def test_a_run_goes_on_with_the_new_data_and_theta():
    estimator, problem, tasks = jm.truncated(1), long_runs.bilevel(), long_runs.tasks()
    step = jax.jit(
        lambda theta, tasks, state: estimator.estimate(KEY, problem, theta, tasks, state)[1]
    )
    before = step(THETA, tasks, estimator.init(KEY, problem, THETA, tasks))
    moved = tasks._replace(support=tasks.support._replace(centre=tasks.support.centre + 1.0))
    after = step({"log_rate": jnp.log(0.5)}, moved, before)
    phi, start = before.position.phi, jnp.broadcast_to(jnp.array([1.0, 4.5]), (4, 2))
    np.testing.assert_allclose(
        after.position.phi,
        phi - 0.5 * np.array([[1.0, 0.05]]) * (phi - moved.support.centre),
        rtol=1e-12,
    )
    np.testing.assert_array_equal(after.position.start, start)


def test_a_short_horizon_misleads_and_the_report_beside_it_says_so():
    estimator = jm.truncated(WINDOW, against=jm.unrolled())
    results = windows(estimator, long_runs.bilevel(), THETA, long_runs.tasks(), 3)
    exact, _ = long_runs.by_hand(STEPS, 0)
    for number, (estimate, _) in enumerate(results, 1):
        short, _ = long_runs.by_hand(number * WINDOW, (number - 1) * WINDOW)
        np.testing.assert_allclose(estimate.info["cosine"], np.sign(short * exact), rtol=1e-12)
        np.testing.assert_allclose(
            estimate.info["relative_error"], abs(short - exact) / abs(exact), rtol=1e-10
        )
    assert exact < 0 < results[0][0].grad["log_rate"]


def test_closeness_of_known_vectors():
    measures = jm.estimator._estimate.closeness(
        {"a": jnp.array(3.0), "b": jnp.array([0.0])}, {"a": 3.0, "b": jnp.array([4.0])}
    )
    np.testing.assert_allclose([measures["cosine"], measures["relative_error"]], [0.6, 0.8])


def test_memory_does_not_grow_with_the_steps():
    for estimator, least, most in (
        (jm.truncated(4), 0, 1.1),
        (jm.truncated(4, afresh), 0, 1.1),
        (jm.unrolled(), 5, 10),
    ):
        few, many = (long_runs.memory(estimator, steps) for steps in (20, 200))
        assert least * few < many < most * few


# Every estimator that may carry state, in all its settings, through one contract.
MEMBERS = {
    "truncated": lambda over=None: jm.truncated(2, over=over),
    "truncated, beside the exact": lambda over=None: jm.truncated(
        2, over=over, against=jm.unrolled(over=over)
    ),
    "truncated afresh": lambda over=None: jm.truncated(2, afresh, over=over),
    "one step": lambda over=None: jm.one_step(over),
    "evolution": lambda over=None: jm.evolution(0.1, 2, over=over),
    "evolution, fresh": lambda over=None: jm.evolution(0.1, 2, 2, fresh, over),
    "pes": lambda over=None: jm.pes(0.1, 2, 2, over),
    "nres": lambda over=None: jm.nres(0.1, 2, 2, over),
    "forward": lambda over=None: jm.forward(gaussian(2), over=over),
    "forward, basis": lambda over=None: jm.forward(basis, over=over),
}
STATELESS = ("truncated afresh", "evolution", "forward", "forward, basis")


# These are within members that stay; the quick suite leaves them out.
WITHIN = {"truncated", "one step", "evolution, fresh", "nres", "forward"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in WITHIN else name for name in MEMBERS
    ],
    scope="module",
)
def member(request):
    make, tasks, problem = MEMBERS[request.param], long_runs.tasks(), long_runs.random_bilevel(4)
    theta = problem.init(KEY, problems.one(tasks))

    def step(over, theta, tasks, state):
        return make(over).estimate(KEY, problem, theta, tasks, state)

    compiled = jax.jit(lambda *args: step(jm.over_tasks(chunk=4), *args))
    state = make(jm.over_tasks(chunk=4)).init(KEY, problem, theta, tasks)
    return types.SimpleNamespace(
        name=request.param,
        make=make,
        problem=problem,
        theta=theta,
        tasks=tasks,
        step=step,
        compiled=compiled,
        state=state,
        after=compiled(theta, tasks, state),
    )


def test_the_state_keeps_its_structure_and_nothing_recompiles(member):
    estimate, state = member.after
    chex.assert_trees_all_equal_shapes_and_dtypes(state, member.state)
    chex.assert_trees_all_equal_shapes_and_dtypes(estimate.grad, member.theta)
    assert (state == ()) == (member.name in STATELESS)
    member.compiled(jax.tree.map(lambda x: x * 1.1, member.theta), long_runs.tasks(seed=7), state)
    assert member.compiled._cache_size() == 1
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(member.state))


def test_chunked_and_sharded_tasks_are_all_at_once(member):
    over = jm.over_tasks(
        chunk=1, mesh=jm.task_mesh()
    )  # two tasks on each device, one after the other
    begun = member.make(over).init(KEY, member.problem, member.theta, member.tasks)
    chex.assert_trees_all_close(begun, member.state, rtol=1e-12)
    part = jax.jit(lambda *args: member.step(over, *args))(member.theta, member.tasks, begun)
    chex.assert_trees_all_close(part, member.after, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["truncated", pytest.param("nres", marks=pytest.mark.slow)])
def test_jit_is_no_jit(name):
    estimator, problem, tasks = MEMBERS[name](), long_runs.bilevel(4), long_runs.tasks()
    state = estimator.init(KEY, problem, THETA, tasks)
    compiled = jax.jit(lambda state: estimator.estimate(KEY, problem, THETA, tasks, state))(state)
    chex.assert_trees_all_close(
        compiled, estimator.estimate(KEY, problem, THETA, tasks, state), rtol=1e-9, atol=1e-11
    )


def test_float32_is_kept(member):
    tasks = long_runs.tasks(jnp.float32)
    theta = jax.tree.map(lambda x: x.astype(jnp.float32), member.theta)
    state = jax.eval_shape(lambda: member.make().init(KEY, member.problem, theta, tasks))
    estimate, after = jax.eval_shape(member.compiled, theta, tasks, state)
    chex.assert_trees_all_equal_shapes_and_dtypes((estimate.grad, after), (theta, state))
    assert all(leaf.dtype != jnp.float64 for leaf in jax.tree.leaves((estimate, after)))


@pytest.mark.parametrize("name", ["truncated", "pes"])
def test_fit_carries_the_state(name):
    def sample(key):
        return jax.tree.map(lambda leaf: leaf[0], long_runs.tasks())

    algorithm = Algorithm(long_runs.bilevel(8), MEMBERS[name]())
    fitted = jm.fit(
        KEY, algorithm, sample, optax.sgd(1e-2), 3, tasks=2, progress=lambda event: None
    )
    run = fitted.state.estimator if name == "truncated" else fitted.state.estimator[0]
    np.testing.assert_array_equal(run.steps, np.full(run.steps.shape, 6))
    assert fitted.theta["log_rate"] != THETA["log_rate"]


def test_refusals():
    problem, tasks = long_runs.bilevel(), long_runs.tasks()
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        jm.truncated(0)
    for estimator in (jm.truncated(3), jm.pes(0.1, 2, 3)):
        with pytest.raises(
            ValueError, match="multiple of the window of 3, got 20; take 21 steps, or a window of 2"
        ):
            estimator.init(KEY, problem, THETA, tasks)
    with pytest.raises(
        ValueError, match="at most the 20 steps of the learner, got 21; take a window of 20"
    ):
        jm.truncated(21, afresh).estimate(KEY, problem, THETA, tasks, ())
    estimator = jm.truncated(2)
    state = estimator.init(KEY, problem, THETA, tasks)
    with pytest.raises(
        ValueError, match="tasks must be the 4 whose runs are held, got 3; give as many"
    ):
        estimator.estimate(KEY, problem, THETA, jax.tree.map(lambda leaf: leaf[:3], tasks), state)
    with pytest.raises(ValueError, match="sigma must be positive, got 0.0"):
        jm.evolution(0.0, 2)
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        jm.evolution(0.1, 0)
    with pytest.raises(ValueError, match="count of directions must be a whole number, got 1.5"):
        gaussian(1.5)
