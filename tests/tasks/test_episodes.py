"""Episodes: what they hold, that they cannot leak, that they are drawn fairly, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxmeta as jm
from jaxmeta.tasks import each_of, original, reflections, rotations, sessions
from jaxmeta.tasks._episodes import drawer, index

CLASSES, EACH = 7, 6
LABELS = np.repeat(np.arange(CLASSES), EACH)


def tagged():
    """Inputs that tell which example they are."""
    return np.arange(CLASSES * EACH, dtype=np.float32)[:, None]


def draw(sample, count, seed=0):
    return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(seed), count))


def test_support_and_query_are_disjoint_and_of_the_classes_their_labels_say():
    order = np.random.default_rng(0).permutation(len(LABELS))
    sample = jm.episodes(jm.pool(tagged()[order], LABELS[order]), ways=3, shots=2, queries=3)
    tasks = draw(sample, 50)
    assert tasks.support.x.shape == (50, 6, 1) and tasks.query.x.shape == (50, 9, 1)
    for support, query in zip(tasks.support.x[..., 0], tasks.query.x[..., 0]):
        seen = np.concatenate([support, query]).astype(int)
        assert len(set(seen.tolist())) == 15  # no example twice
        classes = [set((part.astype(int) // EACH).reshape(3, -1)[way].tolist())
                   for way in range(3) for part in (np.asarray(support), np.asarray(query))]
        assert all(len(one) == 1 for one in classes)
        assert [min(one) for one in classes[::2]] == [min(one) for one in classes[1::2]]
        assert len({min(one) for one in classes}) == 3  # no class twice
    np.testing.assert_array_equal(tasks.support.y[0], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(tasks.query.y[0], np.repeat([0, 1, 2], 3))


def test_every_class_and_example_is_drawn_as_often():
    sample = jm.episodes(jm.pool(tagged(), LABELS), ways=2, shots=1, queries=2)
    counts = np.bincount(draw(sample, 4000).support.x.astype(int).ravel(), minlength=len(LABELS))
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_variants_multiply_each_turn_mirrored_and_not():
    image = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    eight = each_of(rotations, reflections)
    found = {np.asarray(eight.apply(image, index)).tobytes() for index in range(eight.count)}
    turned = [np.rot90(image, turn) for turn in range(4)]
    assert eight.count == 8 and found == {part.tobytes() for each in turned for part in (each, each[:, ::-1])}
    assert each_of(rotations, reflections) is eight
    assert all((original.apply(image, 0) == each_of(original, reflections).apply(image, index)).all() == (index == 0)
               for index in range(2))


def test_rotations_are_classes_of_their_own():
    images = np.zeros((4 * EACH, 4, 4, 1), np.uint8)
    images[:, 0, 1, 0] = 255
    sample = jm.episodes(jm.pool(images, np.repeat(np.arange(4), EACH)), 16, 1, 1, jm.rotations)
    task = sample(jax.random.key(0))
    assert task.support.x.dtype == jnp.float32 and float(task.support.x.max()) == 1.0
    turns = np.stack([np.rot90(images[0, :, :, 0], turn) for turn in range(4)])
    which = [int(np.argmax([(np.asarray(x[..., 0] * 255) == turn).all() for turn in turns])) for x in task.support.x]
    assert sorted(which) == sorted(4 * [0, 1, 2, 3])
    np.testing.assert_array_equal(task.support.x, task.query.x)  # support and query of a class are turned alike


def test_groups_keep_episodes_apart():
    groups = (np.arange(len(LABELS)) % EACH) // 3  # two groups, each with half of every class
    sample = jm.episodes(jm.pool(tagged(), LABELS, groups), ways=4, shots=1, queries=2)
    tasks = draw(sample, 200)
    for part in (tasks.support.x, tasks.query.x):
        np.testing.assert_array_equal(groups[part[..., 0].astype(int)], np.broadcast_to(tasks.node[:, None], part.shape[:2]))
    assert set(np.asarray(tasks.node).tolist()) == {0, 1}


def test_a_group_with_too_few_classes_is_never_drawn():
    groups = np.where(LABELS < 2, 0, 1)
    sample = jm.episodes(jm.pool(tagged(), LABELS, groups), ways=3, shots=1, queries=1)
    assert set(np.asarray(draw(sample, 100).node).tolist()) == {1}


def test_classes_with_too_few_examples_are_left_out():
    keep = ~((LABELS == 0) & (np.arange(len(LABELS)) >= 2))
    sample = jm.episodes(jm.pool(tagged()[keep], LABELS[keep]), ways=CLASSES - 1, shots=1, queries=2)
    assert float(draw(sample, 50).support.x.min()) >= 2


def test_the_data_are_an_argument_of_the_compiled_program():
    sample = jm.episodes(jm.pool(np.zeros((2 * EACH, 64, 64, 1), np.uint8), np.repeat([0, 1], EACH)), 2, 1, 1)
    lowered = jax.jit(lambda sample, key: sample(key)).lower(sample, jax.random.key(0))
    assert len(lowered.as_text()) < 100_000


def test_samplers_of_one_setting_share_a_program():
    traced = []
    run = jax.jit(lambda sample, key: traced.append(0) or sample(key))
    for x in (tagged(), tagged() + 1):
        run(jm.episodes(jm.pool(x, LABELS), ways=3, shots=1, queries=2), jax.random.key(0))
    assert len(traced) == 1
    run(jm.episodes(jm.pool(tagged(), LABELS), ways=2, shots=1, queries=2), jax.random.key(0))
    assert len(traced) == 2


def two_sessions():
    """Three persons, two classes: person 2 has nothing of class 1 in the second session."""
    labels, persons = np.tile(np.repeat([0, 1], 3), 3), np.repeat([0, 1, 2], 6)
    x = (100 * persons + 10 * labels + np.tile(np.arange(3), 6)).astype(np.float32)[:, None]
    later = (persons < 2) | (labels == 0)
    return jm.pool(x, labels, persons), jm.pool(x[later] + 1000, labels[later], persons[later])


def test_sessions_learn_in_one_and_judge_in_the_other():
    tasks = draw(sessions(*two_sessions(), shots=1, queries=2), 200)
    np.testing.assert_array_equal(tasks.support.y[0], [0, 1])
    np.testing.assert_array_equal(tasks.query.y[0], [0, 0, 1, 1])
    for part, session in ((tasks.support, 0), (tasks.query, 1)):
        x = np.asarray(part.x[..., 0], int)
        np.testing.assert_array_equal(x // 1000, session)
        np.testing.assert_array_equal(x % 1000 // 100, np.broadcast_to(tasks.node[:, None], x.shape))
        np.testing.assert_array_equal(x % 100 // 10, part.y)  # classes keep their numbers
        assert set((x % 10).ravel().tolist()) == {0, 1, 2}
    assert (tasks.query.x[:, ::2] != tasks.query.x[:, 1::2]).all()  # without replacement
    assert set(np.asarray(tasks.node).tolist()) == {0, 1}  # person 2 lacks a class


def test_refused_sessions():
    first, second = two_sessions()
    with pytest.raises(ValueError, match="need a group with as many of every class, got at most 3 and 3; take fewer"):
        sessions(first, second, shots=1, queries=4)
    with pytest.raises(ValueError, match=r"same groups and classes, got \[G, C\] of \(3, 2\) and \(1, 7\)"):
        sessions(first, jm.pool(tagged(), LABELS), 1, 1)
    with pytest.raises(ValueError, match="shots must be at least 1, got 0"):
        sessions(first, second, 0, 1)


def test_a_stream_gives_the_episodes_that_the_device_draws():
    inputs = np.random.default_rng(0).integers(0, 255, (len(LABELS), 4, 4, 1)).astype(np.uint8)
    settings = {"ways": 3, "shots": 1, "queries": 2, "variants": jm.rotations}
    batches = iter(jm.stream(inputs, LABELS, tasks=2, seed=5, **settings))
    sample = jax.jit(jm.episodes(jm.pool(inputs, LABELS), **settings))
    for number in range(2):
        streamed = next(batches)
        for place in range(2):
            drawn = sample(jax.random.fold_in(jax.random.key(5), 2 * number + place))
            jax.tree.map(lambda a, b, place=place: np.testing.assert_array_equal(a[place], b), streamed, drawn)


def test_a_stream_goes_on_where_it_was():
    iterator = iter(jm.stream(tagged(), LABELS, ways=3, shots=1, queries=1, tasks=2))
    next(iterator)
    state = iterator.get_state()
    second = next(iterator)
    iterator.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, next(iterator), second)


def test_inductive_marks_the_support_as_the_reference():
    task = jm.episodes(jm.pool(tagged(), LABELS), 2, 1, 3)(jax.random.key(0))
    seen = []
    jm.inductive(lambda key, learner, trajectory, task: seen.append(task.query))(None, None, None, task)
    assert seen[0].x.shape == (8, 1)
    np.testing.assert_array_equal(seen[0].reference, [True] * 2 + [False] * 6)
    np.testing.assert_array_equal(seen[0].x[2:], task.query.x)


@pytest.mark.parametrize("settings, words", [
    ({"ways": 8}, "8-way episodes .* need 8 classes .* there are 7; take at most 7 ways"),
    ({"shots": 9}, "at least 11 examples each, there are 0; at most 6 shots and queries"),
    ({"ways": 0}, "ways must be at least 1, got 0"),
    ({"shots": 1.5}, "shots must be a whole number, got 1.5"),
    ({"queries": -1}, "queries must be at least 1"),
])
def test_refusals(settings, words):
    with pytest.raises(ValueError, match=words):
        jm.episodes(jm.pool(tagged(), LABELS), **({"ways": 3, "shots": 1, "queries": 2} | settings))


def test_refused_data():
    with pytest.raises(ValueError, match="NaN or infinity in example 1"):
        jm.pool(np.array([[0.0], [np.nan]]), np.array([0, 1]))
    with pytest.raises(ValueError, match="labels must be a vector of integers .* got shape .* dtype float64"):
        jm.pool(np.zeros((2, 1)), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="one entry an example, got 3 and 2"):
        jm.pool(np.zeros((3, 1)), np.array([0, 1]))
    with pytest.raises(ValueError, match="source and labels must have one entry an example"):
        jm.stream(np.zeros((3, 1)), np.array([0, 1]), 2, 1, 1, 1)


def test_the_table_lists_every_example_once():
    table = index(LABELS[::-1], np.arange(len(LABELS)) % 2)
    listed = [int(m) for row, counts in zip(table.members, table.counts) for cell, count in zip(row, counts)
              for m in cell[:count]]
    assert sorted(listed) == list(range(len(LABELS)))
    drawn = drawer(table, 2, 1, 1)(jax.random.key(0))
    assert drawn.members.shape == (2, 2)
