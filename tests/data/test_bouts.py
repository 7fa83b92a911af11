"""Windows know their bout and recording, and no episode draws the two sides of a judgement from
one."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxmeta as jm
from jaxmeta import data, experiment
from jaxmeta.data import Dataset, cut_windows
from jaxmeta.experiment import concepts, node_data

PERSONS, CLASSES, LENGTH = 4, 5, 16


def planted(recordings=2, bouts=2, windows=4):
    """Persons' recordings in which every activity comes in bouts. A window's first channel is its
    samples' number, which is unique; its second has one value a bout, the third one a recording."""
    signals, labels, person = [], [], []
    for number in range(PERSONS * recordings):
        label = np.repeat(np.tile(np.arange(CLASSES), bouts), LENGTH * (windows + 1) // 2)
        time = 100_000 * number + np.arange(len(label))
        signals.append(
            np.stack([time, time // (LENGTH * (windows + 1) // 2), np.full(len(label), number)], 1)
        )
        labels.append(label)
        person.append(number // recordings)
    cut = cut_windows(signals, labels, LENGTH)
    return Dataset(
        name="planted",
        inputs=cut.inputs,
        labels=cut.labels,
        groups=np.array(person)[cut.recordings],
        bouts=cut.bouts,
        recordings=cut.recordings,
        class_names=tuple("abcde"),
        group_names=tuple("wxyz"),
        by="group",
        splits={"train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3])},
    )


def samples(windows):
    """The samples of windows, by bytes: two that overlap by half have the half of one at the
    other's end."""
    half = windows.shape[1] // 2
    return [
        (window[:half].tobytes(), window[half : 2 * half].tobytes())
        for window in np.asarray(windows)
    ]


def shared(tasks, ways):
    """The share of queries that have half of their samples, or all, in common with a support window
    of their class."""
    hits = []
    for support, query in zip(tasks.support.x, tasks.query.x):
        by_class = zip(*(np.split(np.asarray(part), ways) for part in (support, query)))
        for mine, others in by_class:
            first, second = (set(half) for half in zip(*samples(mine)))
            hits += [
                begin in first | second or end in first | second for begin, end in samples(others)
            ]
    return np.mean(hits)


def drawn(sample, count=200):
    return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(0), count))


def test_windows_of_different_bouts_share_no_sample():
    rng = np.random.default_rng(0)
    signals = [
        1000.0 * number + np.arange(length)[:, None]
        for number, length in enumerate((100, 7, 230, 0))
    ]
    labels = [
        np.repeat(rng.integers(0, 3, 40), rng.integers(1, 30, 40))[: len(signal)]
        for signal in signals
    ]
    cut = cut_windows(signals, labels, 8)
    spans = [set(window[:, 0].tolist()) for window in cut.inputs]
    assert len(spans) > 20 and all(len(span) == 8 and max(span) - min(span) == 7 for span in spans)
    for a, b in zip(*np.triu_indices(len(spans), 1)):
        assert not spans[a] & spans[b] or cut.bouts[a] == cut.bouts[b]
        assert cut.bouts[a] != cut.bouts[b] or (cut.labels[a], cut.recordings[a]) == (
            cut.labels[b],
            cut.recordings[b],
        )
    for window, label, recording in zip(
        cut.inputs[:, :, 0].astype(int), cut.labels, cut.recordings
    ):
        assert (window // 1000 == recording).all() and (
            labels[recording][window % 1000] == label
        ).all()


def test_windows_that_cannot_be_cut():
    for labels, got in (
        (np.zeros(8, int), r"\[\(8,\)\] of int64"),
        (np.zeros(9), r"\[\(9,\)\] of float64"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"an integer a sample of each recording, of shapes \[\(9,\)\], got {got}; give",
        ):
            cut_windows([np.zeros((9, 3))], [labels], 4)
    with pytest.raises(ValueError, match="length must be at least 2 samples, got 1"):
        cut_windows([np.zeros((9, 3))], [np.zeros(9, int)], 1)
    with pytest.raises(
        ValueError, match="no recording has 4 samples of one label in a row; cut shorter windows"
    ):
        cut_windows([np.zeros((9, 3))], [np.arange(9) // 3], 4)


def test_a_split_and_a_choice_of_classes_keep_bouts():
    whole = planted()
    for part in (
        whole.split("train"),
        concepts.only(whole, ["b", "d"]),
        whole.taken(np.arange(0, len(whole), 3)),
    ):
        assert 0 < len(part) < len(whole)
        np.testing.assert_array_equal(part.inputs[:, 0, 2], part.recordings)
        pairs = np.unique(np.stack([part.bouts, part.inputs[:, 0, 1]]), axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]


def test_recordings_are_kept_apart_where_a_person_has_two_of_a_class_and_bouts_elsewhere():
    whole = planted()
    np.testing.assert_array_equal(whole.apart, whole.recordings)
    once = whole.taken(
        np.flatnonzero((whole.labels != 1) | (whole.groups != 2) | (whole.recordings % 2 == 0))
    )
    alone = (once.labels == 1) & (once.groups == 2)
    np.testing.assert_array_equal(once.apart, np.where(alone, once.bouts, once.recordings))
    np.testing.assert_array_equal(planted(recordings=1).apart, planted(recordings=1).bouts)
    np.testing.assert_array_equal(dataclasses.replace(whole, recordings=None).apart, whole.bouts)
    np.testing.assert_array_equal(dataclasses.replace(whole, bouts=None).apart, whole.recordings)
    assert dataclasses.replace(whole, bouts=None, recordings=None).apart is None


@pytest.mark.parametrize("recordings, shots", [(1, 3), (2, 1)])
def test_episodes_of_a_configuration_share_no_sample(shots, recordings):
    dataset = planted(recordings)
    configuration = experiment.complete(
        experiment.Configuration(data="planted", ways=3, shots=shots, queries=3), dataset
    )
    made = experiment.build(configuration, dataset)
    for sample in (made.sample, made.test.sample):
        tasks = drawn(sample)
        assert shared(tasks, 3) == 0
        apart = [
            set(np.unique(np.asarray(part.x)[..., 0, recordings]))
            for part in (tasks.support, tasks.query)
        ]
        assert apart[0] == apart[1]  # each bout, or recording, serves either side
    leaking = jm.episodes(jm.pool(dataset.inputs, dataset.labels, dataset.groups), 3, shots, 3)
    assert shared(drawn(leaking), 3) > 0.05


@pytest.mark.parametrize("recordings", [1, 2])
def test_a_nodes_test_is_of_other_bouts_than_its_training(recordings):
    dataset = planted(recordings, bouts=4).taken(
        np.random.default_rng(0).permutation(PERSONS * recordings * CLASSES * 16)
    )
    drawn = node_data.node_data(dataset, dataset.inputs[:, 0].astype(float), 3, seed=0)
    for person in range(PERSONS):
        bouts, of = [], []
        for part in (drawn.train, drawn.validation, drawn.test):
            there = part.weight[person] > 0
            bouts.append(set(part.x[person, there, 1].tolist()))
            of.append(set(part.x[person, there, 2].tolist()))
            assert set(part.y[person, there]) == set(range(CLASSES))
        assert not bouts[0] & bouts[1] and not (bouts[0] | bouts[1]) & bouts[2]
        assert recordings == 1 or not (of[0] | of[1]) & of[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["watch", "hapt", "hapt_transitions", "phone_watch"])
def test_no_query_of_real_windows_shares_samples_with_the_support(name, cache, request):
    dataset = (
        data.load(name, cache=cache) if name == "watch" else request.getfixturevalue("real")(name)
    )
    spans, of = {}, dataset.bouts
    for row, halves in enumerate(samples(dataset.inputs)):
        for half in halves:
            assert of[spans.setdefault(half, row)] == of[row]  # who shares a sample shares a bout
    assert len(spans) < 2 * len(dataset)
    part = dataset.split("test")
    for shots in (1, 5):
        pools = [
            jm.pool(part.inputs, part.labels, part.groups, bouts)
            for bouts in (None, part.bouts, part.apart)
        ]
        leaking, *clean = (shared(drawn(jm.episodes(pool, 5, shots, 5), 100), 5) for pool in pools)
        assert clean == [0, 0]
        assert leaking > (0.01 if shots == 1 else 0.05)
