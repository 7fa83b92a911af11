"""The commands of `jaxmeta hierarchy`: what they print, in one process, and what they refuse, in
another."""

import csv
import json

import numpy as np
import pytest
from test_cli import check_refusal, in_one_process

from jaxmeta import data
from jaxmeta.hierarchy import Tree

DIGITS = ["--data", "digits", "--classes", "0,3,5,8", "--shots", "6"]
WATCH = ["--data", "watch", "--shots", "6"]
PAIRS = (
    "(pendulum,(abduction,forward_elevation),(internal_rotation,external_rotation),"
    "(trapezius_extension,upright_row));"
)

GOOD = {
    "count": ["count", 10],
    "count binary": ["count", 14, "--binary", "--json"],
    "large count": ["count", 30],
    "matrix": ["affinity", *WATCH, "--affinity", "means", "--out", "means.npy", "--json"],
    "csv": ["affinity", *DIGITS, "--affinity", "confusion", "--out", "confusion.csv"],
    "picture": ["affinity", *DIGITS, "--affinity", "linear", "--out", "linear.png", "--json"],
    "text": ["derive", *WATCH, "--affinity", "means", "--method", "ward"],
    "newick": ["derive", *WATCH, "--affinity", "means", "--method", "ward", "--newick"],
    "fused": [
        "derive",
        *WATCH,
        "--affinity",
        "means",
        "--fuse",
        1e6,
        "--out",
        "tree.png",
        "--json",
    ],
    "optimal": ["optimal", *DIGITS, "--best", 100, "--json"],
    "binary": ["optimal", *DIGITS, "--binary", "--lower-bound", 1, "--learner", "lda"],
    "flat": ["evaluate", *WATCH, "--tree", "flat", "--seeds", 1, "--json"],
    "by name": ["evaluate", *WATCH, "--tree", PAIRS, "--seeds", 2, "--json"],
    "by number": ["evaluate", *WATCH, "--tree", "pairs.nwk", "--seeds", 2, "--json"],
    "strong": ["evaluate", *DIGITS, "--tree", "confusion", "--learner", "strong", "--seeds", 2],
}

BAD = [
    (["count", 0], "greater than or equal to 1"),
    (["affinity", "--data", "digitz"], "did you mean 'digits'"),
    (["affinity", *DIGITS, "--affinity", "tranfer"], "did you mean 'transfer'"),
    (["affinity", *DIGITS, "--out", "a.txt"], ".npy, .csv or .png"),
    (["affinity", *DIGITS, "--affinity", "means", "--out", "/dev/null/a.csv"], "/dev/null"),
    (["affinity", "--data", "digits", "--classes", "3"], "at least two classes"),
    (["affinity", "--data", "watch", "--classes", "pendulum,abducton"], "did you mean 'abduction'"),
    (["affinity", *DIGITS, "--shots", 2], "--shots"),
    (["derive", *DIGITS, "--method", "avrage"], "did you mean 'average'"),
    (["derive", *DIGITS, "--method", "nbdt", "--fuse", 1], "leave them out"),
    (["derive", *DIGITS, "--fuse", -1], "--fuse"),
    (
        ["optimal", "--data", "glyphs", "--binary"],
        "at most 10 classes, or 14 where trees are binary, got 1025",
    ),
    (["optimal", *DIGITS, "--learner", "svm"], "choose one of lda, ridge"),
    (["optimal", *DIGITS, "--best", 0], "--best"),
    (["evaluate", *WATCH, "--tree", "none.nwk"], "got 'none.nwk'"),
    (["evaluate", *WATCH, "--tree", "((a,b),c);"], "it lacks ['abduction'"),
    (["evaluate", *WATCH, "--tree", "((0,1),(2"], "Newick"),
    (["evaluate", *WATCH, "--tree", PAIRS, "--affinity", "means"], "leave them out"),
    (["evaluate", *WATCH, "--tree", "nbdt", "--learner", "week"], "did you mean 'weak'"),
    (["evaluate", *WATCH], "--tree"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The folder that the commands wrote into, and what they printed."""
    folder = tmp_path_factory.mktemp("hierarchy")
    (folder / "pairs.nwk").write_text("(0,(1,2),(3,4),(5,6))\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = dict(zip(GOOD, in_one_process(*(["hierarchy", *case] for case in GOOD.values()))))
    assert not [(name, stderr) for name, (code, _, stderr) in found.items() if code != 0]
    return folder, {name: stdout for name, (_, stdout, _) in found.items()}


@pytest.fixture(scope="module")
def printed(answers):
    return answers[1]


@pytest.fixture(scope="module")
def refusals():
    return in_one_process(*(["hierarchy", *case] for case, _ in BAD))


@pytest.mark.slow
def test_numbers_of_trees_are_exact(printed):
    assert printed["count"] == "282137824\n"
    assert json.loads(printed["count binary"])["trees"] == 7905853580625  # 25!!
    assert int(printed["large count"]) > 2**64


@pytest.mark.slow
def test_an_affinity_is_printed_and_written(answers):
    folder, printed = answers
    means = json.loads(printed["matrix"])
    names = list(data.load("watch").class_names)
    assert means["classes"] == names
    np.testing.assert_allclose(np.load(folder / "means.npy"), means["matrix"], rtol=1e-6)
    matrix = np.array(means["matrix"])
    assert (
        matrix.shape == (7, 7)
        and not np.diag(matrix).any()
        and (matrix == matrix.T).all()
        and matrix.max() == 0
    )
    with (folder / "confusion.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["", "0", "3", "5", "8"] and [row[0] for row in rows] == header[1:]
    assert 0 <= np.array([row[1:] for row in rows], float).max() <= 1
    for value in (row[1] for row in rows):
        assert f"{float(value):.3g}" in printed["csv"]
    matrix = np.array(json.loads(printed["picture"])["matrix"])
    assert matrix.shape == (4, 4) and matrix.min() >= 0 and matrix.max() <= 1
    assert (folder / "linear.png").stat().st_size > 5_000


@pytest.mark.slow
def test_a_tree_is_printed_in_every_form(answers):
    folder, printed = answers
    tree = Tree.from_newick(printed["newick"]).over(data.load("watch").class_names)
    assert printed["text"] == f"{tree}\n"
    assert len(tree.inner) == 6
    fused = json.loads(printed["fused"])
    assert (
        Tree.from_newick(fused["newick"])
        == Tree.from_nested(fused["tree"])
        == Tree.star(tree.concepts)
    )
    assert (folder / "tree.png").stat().st_size > 5_000


@pytest.mark.slow
def test_the_optimum_is_of_all_trees(printed):
    every = json.loads(printed["optimal"])
    trees = [Tree.from_newick(row["newick"]) for row in every["best"]]
    assert len(set(trees)) == 26 and set(trees[0].concepts) == {"0", "3", "5", "8"}
    gains = [row["gain"] for row in every["best"]]
    assert gains == pytest.approx(sorted(gains, reverse=True), abs=1e-6)
    assert gains[trees.index(Tree.star(("0", "3", "5", "8")))] == pytest.approx(0, abs=1e-6)
    for name, regret in every["regret"].items():
        derived = Tree.from_nested(every["derived"][name])
        assert regret == pytest.approx(gains[0] - gains[trees.index(derived)], abs=1e-6)
    for words in (
        "┬",
        "best binary trees",
        "lda nodes",
        "standard error",
        "not binary",
        "transfer affinity",
        "optimum by lower bound",
    ):
        assert words in printed["binary"]


@pytest.mark.slow
def test_a_tree_is_tested_against_flat(printed):
    flat = json.loads(printed["flat"])
    assert all(
        flat[name]["difference"] == 0 and flat[name]["half"] is None
        for name in ("accuracy", "lca_height")
    )
    assert flat["hierarchical_f1"]["flat"] == pytest.approx(
        flat["accuracy"]["flat"]
    )  # no node between root and leaf
    assert flat["lca_height"]["tree"] == pytest.approx(1 - flat["accuracy"]["tree"])
    by_name, by_number = json.loads(printed["by name"]), json.loads(printed["by number"])
    (tree,) = by_name["trees"]
    assert Tree.from_newick(tree) == Tree.from_newick(PAIRS)
    for name in ("accuracy", "hierarchical_f1", "normalised_h_loss", "lca_height"):
        row = by_name[name]
        assert row["difference"] == pytest.approx(row["tree"] - row["flat"]) and row["half"] >= 0
    # The file is over numbers: classes 1 and 2 are abduction and forward elevation, and so on, as
    # in PAIRS.
    assert by_number["trees"] == by_name["trees"] and by_number["accuracy"] == by_name["accuracy"]
    assert "strong nodes" in printed["strong"] and "normalised h loss" in printed["strong"]


@pytest.mark.parametrize(
    "number", list(range(len(BAD))), ids=[" ".join(map(str, case)) for case, _ in BAD]
)
def test_what_cannot_be_is_refused_in_one_sentence(refusals, number):
    check_refusal(refusals[number], BAD[number][1])
