"""Episodes: what they hold, that they cannot leak, that they are drawn fairly, and what they
refuse."""

import hashlib
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxmeta as jm
from jaxmeta.tasks import each_of, labelled, original, reflections, rotations, sessions
from jaxmeta.tasks._bouts import most_queries
from jaxmeta.tasks._episodes import drawer
from jaxmeta.tasks._pool import index

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
        classes = [
            set((part.astype(int) // EACH).reshape(3, -1)[way].tolist())
            for way in range(3)
            for part in (np.asarray(support), np.asarray(query))
        ]
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
    assert eight.count == 8 and found == {
        part.tobytes() for each in turned for part in (each, each[:, ::-1])
    }
    assert each_of(rotations, reflections) is eight
    assert all(
        (original.apply(image, 0) == each_of(original, reflections).apply(image, index)).all()
        == (index == 0)
        for index in range(2)
    )


def test_rotations_are_classes_of_their_own():
    images = np.zeros((4 * EACH, 4, 4, 1), np.uint8)
    images[:, 0, 1, 0] = 255
    sample = jm.episodes(jm.pool(images, np.repeat(np.arange(4), EACH)), 16, 1, 1, jm.rotations)
    task = sample(jax.random.key(0))
    assert task.support.x.dtype == jnp.float32 and float(task.support.x.max()) == 1.0
    turns = np.stack([np.rot90(images[0, :, :, 0], turn) for turn in range(4)])
    which = [
        int(np.argmax([(np.asarray(x[..., 0] * 255) == turn).all() for turn in turns]))
        for x in task.support.x
    ]
    assert sorted(which) == sorted(4 * [0, 1, 2, 3])
    np.testing.assert_array_equal(
        task.support.x, task.query.x
    )  # support and query of a class are turned alike


def test_groups_keep_episodes_apart():
    groups = (np.arange(len(LABELS)) % EACH) // 3  # two groups, each with half of every class
    sample = jm.episodes(jm.pool(tagged(), LABELS, groups), ways=4, shots=1, queries=2)
    tasks = draw(sample, 200)
    for part in (tasks.support.x, tasks.query.x):
        np.testing.assert_array_equal(
            groups[part[..., 0].astype(int)], np.broadcast_to(tasks.node[:, None], part.shape[:2])
        )
    assert set(np.asarray(tasks.node).tolist()) == {0, 1}


def test_a_group_with_too_few_classes_is_never_drawn():
    groups = np.where(LABELS < 2, 0, 1)
    sample = jm.episodes(jm.pool(tagged(), LABELS, groups), ways=3, shots=1, queries=1)
    assert set(np.asarray(draw(sample, 100).node).tolist()) == {1}


def test_classes_with_too_few_examples_are_left_out():
    keep = ~((LABELS == 0) & (np.arange(len(LABELS)) >= 2))
    sample = jm.episodes(
        jm.pool(tagged()[keep], LABELS[keep]), ways=CLASSES - 1, shots=1, queries=2
    )
    assert float(draw(sample, 50).support.x.min()) >= 2


def test_the_data_are_an_argument_of_the_compiled_program():
    sample = jm.episodes(
        jm.pool(np.zeros((2 * EACH, 64, 64, 1), np.uint8), np.repeat([0, 1], EACH)), 2, 1, 1
    )
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
        np.testing.assert_array_equal(
            x % 1000 // 100, np.broadcast_to(tasks.node[:, None], x.shape)
        )
        np.testing.assert_array_equal(x % 100 // 10, part.y)  # classes keep their numbers
        assert set((x % 10).ravel().tolist()) == {0, 1, 2}
    assert (tasks.query.x[:, ::2] != tasks.query.x[:, 1::2]).all()  # without replacement
    assert set(np.asarray(tasks.node).tolist()) == {0, 1}  # person 2 lacks a class


def test_refused_sessions():
    first, second = two_sessions()
    with pytest.raises(
        ValueError,
        match="need a group with as many of every class, got at most 3 and 3; take fewer",
    ):
        sessions(first, second, shots=1, queries=4)
    with pytest.raises(
        ValueError, match=r"same groups and classes, got \[G, C\] of \(3, 2\) and \(1, 7\)"
    ):
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
            jax.tree.map(
                lambda a, b, place=place: np.testing.assert_array_equal(a[place], b),
                streamed,
                drawn,
            )


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
    jm.inductive(lambda key, learner, trajectory, task: seen.append(task.query))(
        None, None, None, task
    )
    assert seen[0].x.shape == (8, 1)
    np.testing.assert_array_equal(seen[0].reference, [True] * 2 + [False] * 6)
    np.testing.assert_array_equal(seen[0].x[2:], task.query.x)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"ways": 8}, "8-way episodes .* need 8 classes .* there are 7; take at most 7 ways"),
        ({"shots": 9}, "at least 11 examples each, there are 0; at most 6 shots and queries"),
        ({"ways": 0}, "ways must be at least 1, got 0"),
        ({"shots": 1.5}, "shots must be a whole number, got 1.5"),
        ({"queries": -1}, "queries must be at least 1"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(ValueError, match=words):
        jm.episodes(jm.pool(tagged(), LABELS), **({"ways": 3, "shots": 1, "queries": 2} | settings))


def test_refused_data():
    with pytest.raises(ValueError, match="NaN or infinity in example 1"):
        jm.pool(np.array([[0.0], [np.nan]]), np.array([0, 1]))
    with pytest.raises(
        ValueError, match="labels must be a vector of integers .* got shape .* dtype float64"
    ):
        jm.pool(np.zeros((2, 1)), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="one entry an example, got 3 and 2"):
        jm.pool(np.zeros((3, 1)), np.array([0, 1]))
    with pytest.raises(ValueError, match="source and labels must have one entry an example"):
        jm.stream(np.zeros((3, 1)), np.array([0, 1]), 2, 1, 1, 1)


def test_the_table_lists_every_example_once():
    table = index(LABELS[::-1], np.arange(len(LABELS)) % 2)
    listed = [
        int(m)
        for row, counts in zip(table.members, table.counts)
        for cell, count in zip(row, counts)
        for m in cell[:count]
    ]
    assert sorted(listed) == list(range(len(LABELS)))
    drawn = drawer(table, 2, 1, 1)(jax.random.key(0))
    assert drawn.members.shape == (2, 2)


def digest(tree):
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(tree))
    return hashlib.sha256(
        b"".join(leaf.astype(leaf.dtype.kind + "4").tobytes() for leaf in leaves)
    ).hexdigest()[:16]


def test_a_pool_without_bouts_gives_the_episodes_it_always_gave():
    """Digests of before there were bouts."""
    images = np.random.default_rng(0).integers(0, 255, (len(LABELS), 4, 4, 1)).astype(np.float32)
    halves = (np.arange(len(LABELS)) % EACH) // 3
    plain, grouped = jm.pool(tagged(), LABELS), jm.pool(tagged(), LABELS, halves)
    samplers = {
        "6c2dd1a5549a2eaf": jm.episodes(plain, 3, 2, 3),
        "f7d1e484741d308d": jm.episodes(grouped, 4, 1, 2),
        "4eeb87d022dd5476": jm.episodes(jm.pool(images, LABELS), 16, 1, 1, rotations),
        "f4f6a079c339e34e": labelled(grouped, 5),
    }
    for known, sample in samplers.items():
        assert digest(draw(sample, 40, seed=3)) == known
    assert (
        digest(next(iter(jm.stream(images, LABELS, 3, 1, 2, tasks=2, seed=5))))
        == "6457b20662048ea4"
    )


def outcomes(sizes, shots, queries):
    """By enumeration: of every support and query that a fair coin for each bout may lead to, the
    probability."""
    of = np.repeat(np.arange(len(sizes)), sizes)
    found = Counter()
    for coins in itertools.product((True, False), repeat=len(sizes)):
        parts = [np.flatnonzero(np.array(coins)[of] == side) for side in (True, False)]
        pairs = list(
            itertools.product(
                itertools.combinations(parts[0], shots), itertools.combinations(parts[1], queries)
            )
        )
        for pair in pairs:
            found[pair] += 1 / len(pairs)
    return {pair: weight / sum(found.values()) for pair, weight in found.items()}


@pytest.mark.parametrize(
    "sizes, shots, queries",
    [
        ((3, 1, 2), 2, 1),
        ((1, 1, 1, 1), 1, 2),
        ((4, 2), 2, 3),
        ((3, 3, 4, 1), 6, 4),
        ((1, 3, 1), 2, 2),
        ((2, 2), 1, 1),
    ],
)
def test_every_bout_is_on_one_side_as_often_as_fair_coins_say(sizes, shots, queries):
    n, count = sum(sizes), 20_000
    order = np.random.default_rng(0).permutation(n)  # members of a bout need not lie together
    bouts = 7 * np.repeat(np.arange(len(sizes)), sizes)
    pool = jm.pool(
        np.arange(n, dtype=np.float32)[order, None], np.zeros(n, int), bouts=bouts[order]
    )
    tasks = draw(jm.episodes(pool, 1, shots, queries), count)
    seen = Counter(
        tuple(tuple(sorted(part[..., 0].astype(int).tolist())) for part in pair)
        for pair in zip(np.asarray(tasks.support.x), np.asarray(tasks.query.x))
    )
    expected = outcomes(sizes, shots, queries)
    assert set(seen) == set(expected)  # none that leaks, and all that do not
    pairs = sorted(expected)
    assert (
        scipy.stats.chisquare(
            [seen[pair] for pair in pairs], [count * expected[pair] for pair in pairs]
        ).pvalue
        > 1e-4
    )


def planted(people=3):
    """Windows numbered in the order of recording; each class of a person has 3 bouts of 2 to 4
    windows, tagged apart."""
    sizes = np.random.default_rng(0).integers(2, 5, (people, 4, 3))
    person, label, bout = (each.ravel() for each in np.indices(sizes.shape))
    times = sizes.ravel()
    return (
        np.repeat(person, times),
        np.repeat(label, times),
        np.repeat(np.arange(times.size), times),
    )


def test_no_query_is_of_a_bout_of_its_classs_support():
    persons, labels, bouts = planted()
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    tasks = draw(jm.episodes(jm.pool(x, labels, persons, bouts), ways=4, shots=2, queries=2), 500)
    support, query = (
        np.asarray(part.x, int).reshape(500, 4, 2) for part in (tasks.support, tasks.query)
    )
    assert not (bouts[support][..., :, None] == bouts[query][..., None, :]).any()
    np.testing.assert_array_equal(
        persons[support], np.broadcast_to(tasks.node[:, None, None], support.shape)
    )
    assert (np.diff(labels[np.concatenate([support, query], 2)], axis=2) == 0).all()
    assert (support[..., 0] != support[..., 1]).all() and (query[..., 0] != query[..., 1]).all()
    assert set(support.ravel()) == set(query.ravel()) == set(range(len(labels)))


def test_classes_and_groups_whose_bouts_cannot_be_parted_are_left_out():
    labels = np.repeat([0, 1, 2, 0, 1, 2], 6)
    persons = np.repeat([0, 1], 18)
    bouts = np.concatenate(
        [np.zeros(6, int), *[[0, 0, 0, 1, 1, 1]] * 2, [0, 0, 0, 0, 1, 1], np.zeros(12, int)]
    )
    pool = jm.pool(np.arange(36.0)[:, None], labels, persons, bouts)
    tasks = draw(jm.episodes(pool, ways=2, shots=3, queries=2), 200)
    assert set(np.asarray(tasks.node).tolist()) == {0}  # the other person has one such class
    assert set(labels[np.asarray(tasks.support.x, int)].ravel().tolist()) == {1, 2}


@pytest.mark.parametrize(
    "bouts, settings, words",
    [
        (
            [0] * 42,
            {},
            "need 3 classes of which some bouts hold 1 examples and the others 2, there are 0; "
            "give more data",
        ),
        (
            [0, 0, 0, 0, 1, 1] * 7,
            {"queries": 5},
            "hold 1 examples and the others 5, there are 0; at most 4 queries",
        ),
        (
            [0, 0, 0, 0, 1, 1] * 7,
            {"shots": 5, "queries": 1},
            "there are 0; at most 2 shots and as many queries",
        ),
        ([0, 1] * 21, {"ways": 8}, "there are 7; take at most 7 ways"),
        ([0] * 36 + [0, 1] * 3, {}, "there are 1; take at most 1 ways$"),
        (
            [0] * 41,
            {},
            r"labels and bouts must have one entry an example .* got shapes \(42,\) and \(41,\)",
        ),
        ([0.5] * 42, {}, "bouts must be a vector of integers from 0 up"),
    ],
)
def test_refused_bouts(bouts, settings, words):
    with pytest.raises(ValueError, match=words):
        jm.episodes(
            jm.pool(tagged(), LABELS, bouts=np.array(bouts)),
            **({"ways": 3, "shots": 1, "queries": 2} | settings),
        )


@pytest.mark.parametrize("seed", range(20))
def test_the_most_queries_are_those_of_the_best_of_all_partings(seed):
    rng = np.random.default_rng(seed)
    sizes, shots = rng.integers(0, 6, 6), int(rng.integers(1, 12))
    sides = np.array(list(itertools.product((0, 1), repeat=6)))
    possible = (sides @ sizes)[sides @ sizes >= shots]
    assert most_queries(sizes, shots) == (sizes.sum() - possible.min() if possible.size else -1)


def test_many_bouts_and_many_shots():
    """Coins alone would hardly ever fall so: 60 of 64 single windows are the support's."""
    pool = jm.pool(np.arange(64.0)[:, None], np.zeros(64, int), bouts=np.arange(64))
    tasks = draw(jm.episodes(pool, 1, 60, 4), 500)
    seen = np.concatenate([tasks.support.x, tasks.query.x], 1)[..., 0].astype(int)
    assert (np.sort(seen, 1) == np.arange(64)).all()
    assert scipy.stats.chisquare(np.bincount(seen[:, 60:].ravel(), minlength=64)).pvalue > 1e-4


def test_a_stream_parts_bouts_as_the_device_does():
    persons, labels, bouts = planted()
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    batch = next(iter(jm.stream(x, labels, 3, 2, 2, tasks=2, groups=persons, bouts=bouts, seed=5)))
    sample = jax.jit(jm.episodes(jm.pool(x, labels, persons, bouts), 3, 2, 2))
    for place in range(2):
        drawn = sample(jax.random.fold_in(jax.random.key(5), place))
        jax.tree.map(
            lambda a, b, place=place: np.testing.assert_array_equal(a[place], b), batch, drawn
        )


def test_bouts_are_nothing_to_batches_of_labelled_examples():
    persons, labels, bouts = planted()
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    with_bouts, without = (
        draw(labelled(jm.pool(x, labels, persons, of), 6), 5) for of in (bouts[::-1], None)
    )
    jax.tree.map(np.testing.assert_array_equal, with_bouts, without)
