"""The commands of `jaxmeta tying`: what they print, in one process, and what they refuse, in
another."""

import json

import numpy as np
import pytest
from test_cli import check_refusal, in_one_process

QUICK = ["--shots", 3, "--steps", 10, "--hidden", 3]
DIGITS = ["--data", "digits", "--classes", "0,3,5", *QUICK]
GROUPS = "((walk,run),(sit,stand),lie);"

GOOD = {
    "list": ["list", "--json"],
    "table": ["list"],
    "shared": ["show", "shared", "--nodes", 3, "--json"],
    "branching": ["show", "branching", "--tree", GROUPS, "--out", "sharing.png", "--json"],
    "text": ["show", "along_tree", "--tree", "groups.nwk"],
    "persons": ["run", "by_group", "--data", "watch", *QUICK, "--seeds", 1, "--json"],
    "few": ["run", "shared", *DIGITS, "--shots", 2, "--seeds", 1, "--json"],
    "classes": [
        "run",
        "low_rank",
        *DIGITS,
        "--tree",
        "((0,3),5);",
        "--set",
        "rank=2",
        "--seeds",
        2,
    ],
}

BAD = [
    (["show", "along_three"], "did you mean 'along_tree'"),
    (["show", "low_rank", "--set", "rang=2"], "has the settings rank, got 'rang'"),
    (["show", "low_rank", "--set", "rank=two"], "must be like 1, got 'two'"),
    (["show", "low_rank", "--set", "rank"], "must be name=value, got 'rank'"),
    (["show", "shared", "--set", "rank=2"], "has no settings"),
    (["show", "low_rank", "--set", "rank=0"], "rank must be at least 1, got 0"),
    (["show", "shared", "--tree", "((0,1),(2"], "Newick"),
    (["show", "shared", "--tree", "none.nwk"], "got 'none.nwk'"),
    (["show", "shared", "--tree", "average"], "no data to derive it from"),
    (["show", "shared", "--tree", GROUPS, "--nodes", 4], "leave one out"),
    (["show", "shared", "--nodes", 1], "--nodes"),
    (["show", "shared", "--nodes", 2, "--out", "/dev/null/a.png"], "/dev/null"),
    (["run", "sharred", *DIGITS], "did you mean 'shared'"),
    (["run", "shared", "--data", "digitz"], "did you mean 'digits'"),
    (["run", "shared", *DIGITS, "--tree", "((a,b),c);"], "it lacks ['0'"),
    (["run", "partial", *DIGITS], "name one of them"),
    (
        ["run", "shared", *DIGITS, "--shots", 1],
        "at least 2 shots, one to train and one to validate, got 1",
    ),
    (["run", "shared"], "--data"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The folder that the commands wrote into, and what they printed."""
    folder = tmp_path_factory.mktemp("tying")
    (folder / "groups.nwk").write_text(GROUPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = dict(zip(GOOD, in_one_process(*(["tying", *case] for case in GOOD.values()))))
    assert not [(name, stderr) for name, (code, _, stderr) in found.items() if code != 0]
    return folder, {name: stdout for name, (_, stdout, _) in found.items()}


@pytest.fixture(scope="module")
def refusals():
    return in_one_process(*(["tying", *case] for case, _ in BAD))


@pytest.mark.slow
def test_schemes_are_listed(answers):
    _, printed = answers
    names = {each["name"] for each in json.loads(printed["list"])}
    assert {"shared", "free", "along_tree", "low_rank"} <= names
    assert all(name in printed["table"] for name in names)


@pytest.mark.slow
def test_who_shares_with_whom(answers):
    folder, printed = answers
    shared = json.loads(printed["shared"])
    assert shared["full"] == 3 * shared["free"] and np.all(np.array(shared["overlap"]) == 1)
    branching = json.loads(printed["branching"])
    assert branching["nodes"] == ["lie", "run", "sit", "stand", "walk"]
    head, first = (
        np.array(branching["colours"][f"{leaf}/bias"]) for leaf in ("head", "body/dense1")
    )
    assert len(np.unique(first, axis=0)) == 1 and len(np.unique(head, axis=0)) == 5
    middle = np.array(branching["colours"]["body/dense2/bias"])
    assert (
        len(np.unique(middle, axis=0)) == 3
        and (middle[1] == middle[4]).all()
        and (middle[2] == middle[3]).all()
    )
    assert (folder / "sharing.png").read_bytes().startswith(b"\x89PNG")
    # 8 tree nodes of 29 parameters; of two siblings 2 of 4 ancestors are common.
    assert "232 free parameters for 145 of 5 nodes" in printed["text"] and "0.50" in printed["text"]


@pytest.mark.slow
def test_a_scheme_is_tested_against_sharing_all_and_nothing(answers):
    _, printed = answers
    persons = json.loads(printed["persons"])
    assert len(persons["nodes"]) == 10 and set(persons["results"]) == {"shared", "free", "by_group"}
    free = {name: row["free_parameters"] for name, row in persons["results"].items()}
    assert free["free"] == 10 * free["shared"] and free["shared"] < free["by_group"] < free["free"]
    means = {name: row["accuracy"]["mean"] for name, row in persons["results"].items()}
    assert all(0 <= mean <= 1 for mean in means.values())
    for other in ("shared", "free"):
        assert persons["results"]["by_group"][f"over_{other}"]["mean"] == pytest.approx(
            means["by_group"] - means[other]
        )
    assert json.loads(printed["few"])["shots"] == 2
    assert "low_rank on digits: 3 nodes" in printed["classes"] and "±" in printed["classes"]


@pytest.mark.parametrize(
    "number", list(range(len(BAD))), ids=[" ".join(map(str, case)) for case, _ in BAD]
)
def test_what_cannot_be_is_refused_in_one_sentence(refusals, number):
    check_refusal(refusals[number], BAD[number][1])
