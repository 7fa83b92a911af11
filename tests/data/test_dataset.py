"""What a Dataset promises of itself: checked arrays, and splits that cannot leak."""

import dataclasses

import numpy as np
import pytest

from jaxmeta.data import Dataset, seeded_split


def example(by="class", **changed):
    """Four classes in two groups, each class in one group; two examples of each class."""
    splits = (
        {"train": [1], "test": [0]}
        if by == "group"
        else {"train": [0, 3], "validation": [1], "test": [2]}
    )
    fields = dict(
        name="tiny",
        inputs=np.arange(16.0, dtype=np.float32).reshape(8, 2),
        labels=np.array([0, 1, 2, 3] * 2),
        groups=np.array([0, 0, 1, 1] * 2),
        class_names=("a", "b", "c", "d"),
        group_names=("x", "y"),
        by=by,
        splits={which: np.array(ids) for which, ids in splits.items()},
    )
    return Dataset(**{**fields, **changed})


def test_counts_and_the_group_of_each_class():
    assert example().counts().tolist() == [[2, 2, 0, 0], [0, 0, 2, 2]]
    assert example().class_groups.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="must lie in one group, got class 'a' in 2"):
        _ = example(groups=np.array([0, 0, 1, 1, 1, 1, 1, 1])).class_groups


def test_a_split_by_class_holds_its_classes_only_and_numbers_them_from_0():
    train = example().split("train")
    assert train.name == "tiny/train"
    assert train.class_names == ("a", "d") and train.group_names == ("x", "y")
    assert train.labels.tolist() == [0, 1, 0, 1] and train.groups.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(train.inputs[:, 0], [0, 6, 8, 14])
    test = example().split("test")
    assert (
        test.class_names == ("c",) and test.group_names == ("y",) and test.groups.tolist() == [0, 0]
    )


def test_a_split_by_group_keeps_the_meaning_of_labels():
    test, train = example(by="group").split("test"), example(by="group").split("train")
    assert test.group_names == ("x",) and train.group_names == ("y",)
    assert test.class_names == train.class_names == ("a", "b", "c", "d")
    assert train.labels.tolist() == [2, 3, 2, 3] and train.groups.tolist() == [0] * 4


def test_a_part_knows_no_other_split():
    with pytest.raises(
        ValueError, match=r"'tiny/train' has no split 'test'; choose one of 'train'"
    ):
        example().split("train").split("test")


def test_a_split_of_a_split_is_itself():
    part = example().split("train")
    np.testing.assert_array_equal(part.split("train").inputs, part.inputs)


def nan():
    inputs = np.zeros((8, 2), np.float32)
    inputs[5, 1] = np.nan
    return inputs


@pytest.mark.parametrize(
    "changed, message",
    [
        (dict(inputs=nan()), "must be finite, got NaN or infinity in example 5"),
        (dict(inputs=[[1.0]] * 8), "must be a numeric numpy array"),
        (dict(inputs=np.array([["a"]] * 8)), "must be a numeric numpy array"),
        (dict(labels=np.zeros(8)), "labels of 'tiny' must be integers .* got float64"),
        (dict(labels=np.array(["a"] * 8)), "labels of 'tiny' must be integers"),
        (dict(labels=np.zeros(7, int)), r"labels of 'tiny' must have shape \(8,\)"),
        (dict(labels=np.full(8, 4)), "must lie in 0 to 3, got 4 to 4"),
        (dict(groups=np.full(8, -1)), "must lie in 0 to 1, got -1 to -1"),
        (dict(domains=np.ones(8, int)), "domains of 'tiny' must lie in 0 to 0"),
        (dict(bouts=np.zeros(8)), "bouts of 'tiny' must be integers .* got float64"),
        (dict(bouts=np.zeros(7, int)), r"bouts of 'tiny' must have shape \(8,\)"),
        (
            dict(recordings=np.full(8, -1)),
            "recordings of 'tiny' must lie in 0 to 2147483647, got -1 to -1; number them from 0$",
        ),
        (dict(labels=None), "labels of 'tiny' must be integers"),
        (dict(by="person"), "must be 'class' or 'group', got 'person'"),
        (
            dict(splits={"train": [0, 1], "test": [1, 2, 3]}),
            r"got class 1 \('b'\) 2 times; make them disjoint",
        ),
        (dict(splits={"train": [0, 1], "test": [3]}), r"got class 2 \('c'\) 0 times"),
        (
            dict(splits={"train": [0, 1], "test": [2, 3, 4]}),
            "split 'test' of 'tiny' must lie in 0 to 3",
        ),
    ],
)
def test_bad_arrays_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        example(**changed)


def test_ids_become_int32():
    made = example(labels=np.array([0, 1, 2, 3] * 2, np.uint8))
    assert made.labels.dtype == made.groups.dtype == made.domains.dtype == np.int32


def test_a_dataset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        example().name = "other"


def test_seeded_split_is_fixed_disjoint_and_whole():
    names = tuple(map(str, range(30)))
    one, two = seeded_split(names, (18, 4, 8)), seeded_split(names, (18, 4, 8))
    assert [len(ids) for ids in one.values()] == [18, 4, 8]
    assert sorted(np.concatenate(list(one.values()))) == list(range(30))
    assert all((one[which] == two[which]).all() for which in one)
    assert (one["test"] != seeded_split(names, (18, 4, 8), seed=1)["test"]).any()
    with pytest.raises(ValueError, match=r"must add up to 30, got \(1, 2, 3\)"):
        seeded_split(names, (1, 2, 3))
