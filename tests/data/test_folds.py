"""Folds: whole groups, every example in its turn, even in size and class; stretches with gaps
between them."""

import numpy as np
import pytest

from jaxmeta.data._folds import assigned, folds, group_split, meta_segments


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_folds_part_people_and_cover_all(seed):
    rng = np.random.default_rng(seed)
    people = rng.choice(12, 400, p=rng.dirichlet(np.full(12, 3.0)))
    people[:12] = range(12)
    turns = folds(people, 5, seed=seed)
    assert sorted(np.concatenate([fold.test for fold in turns])) == list(range(400))
    assert sorted(np.concatenate([fold.validation for fold in turns])) == list(range(400))
    for fold in turns:
        assert sorted(np.concatenate(fold)) == list(range(400))
        assert not set(people[fold.train]) & set(people[fold.test]) | set(
            people[fold.validation]
        ) & set(people[fold.test])
        assert not set(people[fold.train]) & set(people[fold.validation])
    sizes = [len(fold.test) for fold in turns]
    assert (
        max(sizes) - min(sizes) <= np.bincount(people).max()
    )  # the bound of the longest-processing-time rule
    np.testing.assert_array_equal(turns[2].test, folds(people, 5, seed=seed)[2].test)


def test_other_seeds_give_other_folds():
    people = np.arange(30) // 3
    assert len({tuple(group_split(people, seed=seed).test) for seed in range(8)}) > 4


def test_classes_are_spread():
    people = np.arange(60) // 5
    labels = people % 2  # one class a person
    for fold in folds(people, 3, labels=labels):
        np.testing.assert_array_equal(np.bincount(labels[fold.test]), [10, 10])


def test_shares():
    people = np.arange(1000) // 10
    split = group_split(people, (0.7, 0.1, 0.2), seed=3)
    assert [len(part) for part in split] == [700, 100, 200]
    assert [len(part) for part in group_split([4, 4, 4, 4, 1, 2])] == [4, 1, 1]  # none is empty


def test_stretches_have_gaps_between_them():
    recordings = np.repeat([3, 1, 3], [10, 4, 7])
    segments = meta_segments(recordings, 4, gap=1)
    np.testing.assert_array_equal(
        segments, [0, 0, 0, -1, 1, 1, 1, -1, 2, 2, 3, 3, 3, 3, 4, 4, 4, -1, 5, 5, 5]
    )
    assert (meta_segments(recordings, 100) == np.repeat([0, 1, 2], [10, 4, 7])).all()
    parts = assigned(segments, (0.5, 0.5))
    assert (parts[segments < 0] == -1).all() and set(parts[segments >= 0]) == {0, 1}
    same = (recordings[1:] == recordings[:-1]) & (parts[1:] >= 0) & (parts[:-1] >= 0)
    assert (parts[1:] == parts[:-1])[same].all()  # neighbours of one recording are never parted
    assert not np.isin(np.flatnonzero(segments < 0), np.concatenate(folds(segments, 3)[0])).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: folds([0, 1, 2], 2), "k must be at least 3, .* got 2"),
        (lambda: folds([0, 0, 1], 3), "groups must be at least as many as the 3 parts, got 2"),
        (lambda: folds([-1, 0, 1], 3), "groups must be at least as many as the 3 parts, got 2"),
        (lambda: folds(["a", "b"], 3), "groups must be integers"),
        (lambda: folds([0, 1, 2], 3, labels=[0, 1]), "labels must be one an example, 3, got 2"),
        (lambda: group_split([0, 1, 2], (0.5, 0.5)), "shares must be three"),
        (lambda: group_split([0, 1, 2], (0.5, 0.5, 0.5)), "add up to 1"),
        (lambda: meta_segments([0, 0], 2, gap=2), "gap must be .* below length, got 2 of 2"),
    ],
)
def test_faults(call, message):
    with pytest.raises(ValueError, match=message):
        call()
