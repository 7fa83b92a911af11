"""Does it help to share few-shot learning along a tree: of alphabets, of persons?

    # or hapt_recordings, omniglot
    JAXMETA_DATA=../shared/data python -m benchmarks.tying_study --data hapt [--seeds 20]
    # what all runs so far say
    python -m benchmarks.tying_study --table

What is learned across tasks has a value at every node, tied by `jaxmeta.tying` through
`hierarchical`:

  shared            one theta for all nodes (MAML, ProtoNet)
  free              one theta a node
  along the tree    theta = root + delta of the node, prior |delta|^2 / 2 times a strength
  two levels        theta = root + delta of a group of nodes + delta of the node
  scales learned    along the tree, the prior's scale learned with it (hapt)

Does the true structure help, or having more parameters and moving twice a step? Two controls that
keep the tasks as they are: `along the tree, random nodes` puts every task, in training and test, at
a node drawn at random; `two levels, permuted` keeps the nodes and permutes them between the groups.
Two more need no training: the theta of another node, and of the root.

omniglot: nodes are the 30 background alphabets; groups their families by descent (expert). Tasks:
5-way 1-shot within an alphabet. Of every alphabet 5 characters are for the test, up to 5 for
validation, the others for training ('many'), or 5 of them ('few'). Encoders of prototypical
networks, convolutions of 3 blocks of 16 filters on 14x14 images, 400 steps of 4 tasks (a small
budget). New alphabets: the evaluation set's 20, at the root's theta.

hapt: nodes are 24 persons, 6 others are new. Tasks: the 6 activities of a person under their own
names, 1 window each as support, MAML of 3 steps on an MLP of window features. Support and query
come from different bouts, and training and test from different bouts again: a person's bouts of an
activity are dealt to four parts at random (hapt), or those of one recording train and those of the
other test (hapt_recordings; the phone was put on anew). 'few' is 2 windows of a bout, 'many' all.
Groups: persons in the order of Ward's dendrogram of their class means (training windows), cut into
6 of 5.

Chosen in every seed from its own validation tasks, never on what is reported: the strength (along
the tree), and for hapt the rate (of shared and of free). Omniglot's rate is what validation tasks
of seed 100, which is not reported, chose of 0.003, 0.01 and 0.03 for shared; 0.003 and 0.01 did
alike there for free. For hapt the validation tasks are the test tasks of the other half of the
persons. 20 seeds draw parts, start and episodes anew; all conditions of a seed see the same test
episodes.
"""

import argparse
import collections
import functools
import itertools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
import jaxmeta.tying as jt
from benchmarks._record import RESULTS, environment, write
from jaxmeta import data as sets, hierarchy as jh, models
from jaxmeta.base import Algorithm, Bilevel
from jaxmeta.bias import hierarchical, initialisation, representation
from jaxmeta.data import _hapt, _source, _windows
from jaxmeta.estimator import penalised, unrolled
from jaxmeta.evaluation import evaluate, t_interval
from jaxmeta.experiment import concepts
from jaxmeta.learner import gradient, prototypes
from jaxmeta.tasks import sessions
from jaxmeta.training import initial_state, outer_adam, outer_steps

NODES, EPISODES, SIZES = 30, 200, ("few", "many")
FAMILIES = (
    (
        "Balinese",
        "Bengali",
        "Burmese_(Myanmar)",
        "Grantha",
        "Gujarati",
        "Sanskrit",
        "Tagalog",
    ),  # Brahmic
    (
        "Alphabet_of_the_Magi",
        "Early_Aramaic",
        "Hebrew",
        "Malay_(Jawi_-_Arabic)",
        "N_Ko",
        "Syriac_(Estrangelo)",
        "Tifinagh",
    ),
    (
        "Anglo-Saxon_Futhorc",
        "Armenian",
        "Asomtavruli_(Georgian)",
        "Cyrillic",
        "Greek",
        "Latin",
        "Mkhedruli_(Georgian)",
    ),
    (
        "Blackfoot_(Canadian_Aboriginal_Syllabics)",
        "Inuktitut_(Canadian_Aboriginal_Syllabics)",
        "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    ),
    ("Japanese_(hiragana)", "Japanese_(katakana)", "Korean"),
    ("Arcadian", "Braille", "Futurama"),  # made for a purpose
)  # Semitic and its kin are the second, Greek's the third
GROUPS = jh.Tree.from_nested(tuple(tuple(range(5 * each, 5 * each + 5)) for each in range(6)))
OVER = jm.over_tasks(1)


class World(NamedTuple):
    """A study's data set.

    Args:
      bias, learner: What is tied, and the low level.
      tree: Two levels over the 30 nodes.
      steps, tasks: Outer steps of a training and tasks a step.
      rates, strengths: What is chosen from.
      draw: `(size, seed) -> Drawn`.
      more: Names and tyings of further conditions, with the strengths they are chosen from.
    """

    bias: object
    learner: object
    tree: jh.Tree
    steps: int
    tasks: int
    rates: tuple
    strengths: tuple
    draw: object
    more: dict


class Drawn(NamedTuple):
    """A seed's tasks: samplers, and where tasks of a group stand: maps `[G, R]`, one of whose
    columns is drawn.

    `judged` is pairs of samplers: chosen on the first, reported on the second.
    """

    train: object
    judged: list
    new: object
    maps: dict


@functools.cache
def _placing():
    def sample(inner, nodes, key):
        key_task, key_node = jax.random.split(key)
        task = inner(key_task)
        return task._replace(node=jax.random.choice(key_node, nodes[task.node]))

    return sample


def placed(sample, nodes):
    """The sampler of the same tasks at nodes `[G, R]`, one of each row drawn."""
    return jax.tree_util.Partial(_placing(), sample, jnp.asarray(nodes, jnp.int32))


def everywhere(nodes):
    """`[G, 30]` of one node a group."""
    return np.repeat(np.asarray(nodes)[:, None], NODES, 1)


@functools.partial(jax.jit, static_argnames=("bilevel", "penalty", "steps", "tasks"))
def trained(key, sample, rate, strength, *, bilevel, penalty, steps, tasks):
    """Theta of all nodes after meta-training."""
    key_start, key_steps = jax.random.split(key)
    algorithm = Algorithm(bilevel, penalised(unrolled(over=OVER), penalty, strength))
    optimiser = outer_adam(rate, steps)
    state = initial_state(
        key_start, algorithm, optimiser, jax.vmap(sample)(jax.random.split(key_start, tasks))
    )
    return outer_steps(algorithm, optimiser, tasks, steps)(
        state, key_steps, sample, jnp.int32(steps)
    )[0]


class Judge:
    """Trains and judges the conditions of one seed."""

    def __init__(self, world: World, problems: dict, drawn: Drawn, seed: int):
        self.world, self.problems, self.drawn = world, problems, drawn
        self.keys = jax.random.split(jax.random.key(seed), 3)

    def accuracy(self, problem, theta, sample, where):
        result = evaluate(
            self.keys[1], self.problems[problem][1], theta, placed(sample, where), EPISODES, OVER
        )
        return float(result.values["accuracy"].mean())

    def fitted(self, problem, where, grid):
        """By setting `(rate, strength)`: theta and the pairs `(chosen on, reported)`."""
        tying, bilevel = self.problems[problem]
        found = {}
        for rate, strength in grid:
            state = trained(
                self.keys[0],
                placed(self.drawn.train, where),
                rate,
                strength,
                bilevel=bilevel,
                penalty=tying.penalty,
                steps=self.world.steps,
                tasks=self.world.tasks,
            )
            if int(state.step) < self.world.steps:
                raise ValueError(
                    f"{problem} at rate {rate} and strength {strength} is not finite after step "
                    f"{int(state.step)}"
                )
            values = [
                tuple(self.accuracy(problem, state.theta, sample, where) for sample in pair)
                for pair in self.drawn.judged
            ]
            found[rate, strength] = state.theta, values
        return found

    def best(self, found):
        """Each pair's setting, as its first sampler chooses."""
        return [
            max(found, key=lambda setting: found[setting][1][pair][0])
            for pair in range(len(self.drawn.judged))
        ]

    def reported(self, found, **more):
        best = self.best(found)
        return {
            "settings": best,
            "test": float(np.mean([found[each][1][pair][1] for pair, each in enumerate(best)])),
            "grid": {
                f"{rate:g}/{strength:g}": values for (rate, strength), (_, values) in found.items()
            },
        } | more

    def elsewhere(self, problem, found, where):
        """The chosen thetas on the same test tasks put at other nodes."""
        return float(
            np.mean(
                [
                    self.accuracy(problem, found[each][0], pair[1], where)
                    for pair, each in zip(self.drawn.judged, self.best(found))
                ]
            )
        )

    def anew(self, problem, found):
        """On new groups, at the root."""
        settings = self.best(found)
        return float(
            np.mean(
                [
                    self.accuracy(problem, found[each][0], self.drawn.new, self.drawn.maps["root"])
                    for each in settings
                ]
            )
        )


def run(world: World, problems: dict, size: str, seed: int) -> dict:
    """All conditions of one seed."""
    drawn = world.draw(size, seed)
    judge, maps = Judge(world, problems, drawn, seed), drawn.maps
    result = {}
    shared = judge.fitted("shared", maps["true"], [(rate, 0.0) for rate in world.rates])
    result["shared"] = judge.reported(shared, new=judge.anew("shared", shared))
    result["free"] = judge.reported(
        judge.fitted("free", maps["true"], [(rate, 0.0) for rate in world.rates])
    )
    rate = max(shared, key=lambda setting: np.mean([each[0] for each in shared[setting][1]]))[0]
    star = judge.fitted("star", maps["true"], [(rate, strength) for strength in world.strengths])
    result["along the tree"] = judge.reported(
        star,
        new=judge.anew("star", star),
        wrong=judge.elsewhere("star", star, maps["wrong"]),
        root=judge.elsewhere("star", star, maps["root"]),
    )
    chosen = sorted(set(judge.best(star)))
    for name, problem, where in (
        ("along the tree, random nodes", "star", "random"),
        ("two levels", "two levels", "grouped"),
        ("two levels, permuted", "two levels", "permuted"),
    ):
        result[name] = judge.reported(judge.fitted(problem, maps[where], chosen))
    for name, (_, strengths) in world.more.items():
        result[name] = judge.reported(
            judge.fitted(name, maps["true"], [(rate, strength) for strength in strengths])
        )
    return result


def omniglot() -> World:
    dataset = sets.load("omniglot")
    images = dataset.inputs.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4)).astype(np.uint8)
    names = [name for family in FAMILIES for name in family]
    groups = np.array([names.index(name) if name in names else -1 for name in dataset.group_names])
    groups[groups < 0] = np.arange(NODES, len(groups))  # the evaluation set's alphabets follow
    alphabet = groups[dataset.class_groups]  # of each character
    place = np.concatenate([[0], np.cumsum([len(family) for family in FAMILIES])])
    tree = jh.Tree.from_nested(tuple(tuple(range(*ends)) for ends in itertools.pairwise(place)))
    within = np.zeros(len(alphabet), int)
    for each in range(len(groups)):
        within[alphabet == each] = np.arange((alphabet == each).sum())
    whole = jm.pool(images, within[dataset.labels], alphabet[dataset.labels])

    def draw(size, seed):
        rng = np.random.default_rng(seed)
        parts = {
            which: np.zeros(whole.table.counts.shape, bool)
            for which in ("train", "validation", "test", "new")
        }
        for each in range(len(groups)):
            order = rng.permutation((alphabet == each).sum())
            if each >= NODES:
                parts["new"][each, order] = True
                continue
            parts["test"][each, order[:5]] = True
            held = 5 + min(5, len(order) - 10)
            parts["validation"][each, order[5:held]] = True
            parts["train"][each, order[held : held + 5] if size == "few" else order[held:]] = True

        def sampler(which, queries):
            counts = jnp.where(parts[which], whole.table.counts, 0)
            return jm.episodes(
                whole._replace(table=whole.table._replace(counts=counts)), 5, 1, queries
            )

        nodes, last = np.arange(NODES), len(groups) - NODES
        true = np.append(nodes, np.full(last, NODES))
        permuted = np.append(rng.permutation(NODES), np.full(last, NODES))
        maps = {
            "true": everywhere(true),
            "grouped": everywhere(true),
            "permuted": everywhere(permuted),
            "random": np.tile(nodes, (len(groups), 1)),
            "root": np.full((len(groups), NODES), NODES),
            "wrong": everywhere(
                np.append((nodes + rng.integers(1, NODES)) % NODES, np.full(last, NODES))
            ),
        }
        return Drawn(
            sampler("train", 3),
            [(sampler("validation", 5), sampler("test", 5))],
            sampler("new", 5),
            maps,
        )

    return World(
        representation(models.conv4(None, 16, 3, norm=models.layer_norm)),
        prototypes(5),
        tree,
        400,
        4,
        (1e-2,),
        (0.1, 1.0),
        draw,
        {},
    )


def recorded():
    """HAPT's windows of the six activities, and of each the activity, the person, the recording's
    place among the person's, and the bout's place among those of its person, recording and
    activity."""
    path = _source.locate((_hapt.RAW,), _source.source_folder(), pathlib.Path(sets.cache_folder()))[
        _hapt.RAW.name
    ]
    windows, rows, seen, recordings = [], [], {}, {}
    for segment in _hapt.segments(path):
        activity = _hapt._ACTIVITIES.index(segment.label)
        if activity >= 6:
            continue
        person = _hapt._PEOPLE.index(segment.group)
        mine = recordings.setdefault(person, [])
        if segment.recording not in mine:
            mine.append(segment.recording)
        place = min(
            1, mine.index(segment.recording)
        )  # one person's second recording is in two files
        key = (person, place, activity)
        seen[key] = seen.get(key, -1) + 1
        cut = _windows.windows(segment.signal, 128)
        windows.append(cut)
        rows += [(activity, person, place, seen[key])] * len(cut)
    return np.concatenate(windows), np.array(rows).T


def hapt(by_recording: bool) -> World:
    windows, (labels, persons, recordings, bouts) = recorded()
    everyone = tuple(_hapt._PEOPLE)
    x = concepts.features(
        sets.Dataset(
            "hapt",
            windows,
            labels,
            persons,
            tuple(_hapt._ACTIVITIES[:6]),
            everyone,
            "group",
            sets.seeded_split(everyone, (18, 4, 8)),
        )
    )
    cells = np.unique(np.stack([persons, labels, recordings, bouts]), axis=1, return_inverse=True)
    bout_of, bout = cells[0], cells[1].ravel()  # [4, B] and [n]

    def draw(size, seed):
        rng = np.random.default_rng(seed)
        part = np.zeros(bout_of.shape[1], int)  # of every bout: 0 and 1 train, 2 and 3 test
        first = rng.integers(0, 2, NODES)  # the recording that trains
        for person, activity in np.ndindex(NODES, 6):
            mine = rng.permutation(
                np.flatnonzero((bout_of[0] == person) & (bout_of[1] == activity))
            )
            if by_recording:
                trains = bout_of[2, mine] == first[person]
                part[mine[trains]] = np.arange(trains.sum()) % 2
                part[mine[~trains]] = 2 + np.arange((~trains).sum()) % 2
            else:
                part[mine] = np.arange(len(mine)) % 4
        fresh = rng.permutation(NODES)[:6]  # persons that are new
        known = np.setdiff1d(np.arange(NODES), fresh)
        halves = np.array_split(rng.permutation(known), 2)
        order = rng.permutation(len(x))
        kept = np.zeros(len(x), bool)
        for each in range(bout_of.shape[1]):
            mine = order[bout[order] == each]
            kept[mine[:2] if size == "few" and part[each] < 2 else mine] = True
        train = kept & (part[bout] < 2) & np.isin(persons, known)
        mean, deviation = x[train].mean(0), x[train].std(0) + 1e-6
        scaled = ((x - mean) / deviation).astype(np.float32)
        whole = jm.pool(
            np.tile(scaled, (2, 1)),
            np.tile(labels, 2),
            np.repeat([0, NODES], len(x)) + np.tile(persons, 2),
        )

        def sampler(parts, who, queries):
            """Both ways round: groups from 30 on have support and query exchanged."""
            pools = []
            for ways in (parts, parts[::-1]):
                counts, members = (
                    np.zeros(whole.table.counts.shape, np.int32),
                    np.zeros(whole.table.members.shape, np.int32),
                )
                for turn, wanted in enumerate(ways):
                    for person, activity in ((a, b) for a in who for b in range(6)):
                        rows = np.flatnonzero(
                            kept
                            & (part[bout] == wanted)
                            & (persons == person)
                            & (labels == activity)
                        )
                        counts[turn * NODES + person, activity] = len(rows)
                        members[turn * NODES + person, activity, : len(rows)] = rows
                pools.append(
                    whole._replace(
                        table=type(whole.table)(jnp.asarray(members), jnp.asarray(counts))
                    )
                )
            return sessions(*pools, 1, queries)

        parts = [sampler((2, 3), half, 4) for half in halves]
        means = np.concatenate(
            [
                [
                    scaled[train & (persons == person) & (labels == activity)].mean(0)
                    for person in known
                ]
                for activity in range(6)
            ],
            1,
        )
        dendrogram = jh.embedding_tree(means)
        leaves = np.concatenate([np.ravel(each) for each in _leaves(dendrogram.nested())])
        spread = np.setdiff1d(
            np.arange(NODES), np.arange(0, NODES, 5)
        )  # each group's first place is a new person's
        slots = np.zeros(NODES, int)
        slots[known[leaves]], slots[fresh] = spread, np.arange(0, NODES, 5)
        permuted = np.zeros(NODES, int)
        permuted[known], permuted[fresh] = rng.permutation(spread), np.arange(0, NODES, 5)
        wrong = np.arange(NODES)
        cycle = rng.permutation(known)
        wrong[cycle] = np.roll(cycle, 1)
        maps = {
            "true": everywhere(np.arange(NODES)),
            "grouped": everywhere(slots),
            "permuted": everywhere(permuted),
            "random": np.tile(np.resize(known, NODES), (NODES, 1)),
            "root": np.full((NODES, NODES), NODES),
            "wrong": everywhere(wrong),
        }
        return Drawn(
            sampler((0, 1), known, 2),
            [(parts[0], parts[1]), (parts[1], parts[0])],
            sampler((2, 3), fresh, 4),
            {name: np.tile(each, (2, 1)) for name, each in maps.items()},
        )

    learner = gradient(models.mlp((32,), 6), update=optax.sgd(0.1), steps=3)
    learned = jt.along_tree_learned(jh.Tree.star(NODES), 0.3)
    return World(
        initialisation(),
        learner,
        GROUPS,
        600,
        12,
        (3e-3, 1e-2),
        (0.01, 0.1, 1.0),
        draw,
        {"scales learned": (learned, (1 / 7200,))},
    )


def _leaves(nested):
    """The leaves of nested tuples, in their order."""
    return (
        [nested]
        if not isinstance(nested, tuple)
        else [leaf for part in nested for leaf in _leaves(part)]
    )


WORLDS = {
    "omniglot": omniglot,
    "hapt": functools.partial(hapt, False),
    "hapt_recordings": functools.partial(hapt, True),
}


def problems_of(world: World) -> dict:
    """Tyings and bilevel problems by name, made once so that all seeds share their programs."""
    tyings = {
        "shared": jt.shared(NODES + 1),
        "free": jt.free(NODES),
        "star": jt.along_tree(jh.Tree.star(NODES)),
        "two levels": jt.along_tree(world.tree),
    } | {name: tying for name, (tying, _) in world.more.items()}
    return {
        name: (tying, Bilevel(hierarchical(world.bias, tying), world.learner))
        for name, tying in tyings.items()
    }


def table():
    """Points over `shared`, and over its control, of all runs so far."""

    def cell(values):
        mean, half = t_interval(100 * np.asarray(values))
        return f"{mean:+.2f} ± {half:.2f}"

    for name in WORLDS:
        path = RESULTS / f"tying_study_{name}.json"
        if not path.exists():
            continue
        runs = json.loads(path.read_text())["runs"]
        of = {size: [one for key, one in runs.items() if key.startswith(size)] for size in SIZES}
        if not all(of.values()):
            continue
        print(
            f"\n{name}: " + ", ".join(f"{len(of[size])} seeds of {size}" for size in SIZES) + "\n"
        )
        print("| | " + " | ".join(SIZES) + " |\n|---|" + "---|" * len(SIZES))

        def row(what, value, absolute=False):
            cells = []
            for size in SIZES:
                values = [value(one) for one in of[size]]
                cells.append(f"{100 * np.mean(values):.2f}" if absolute else cell(values))
            print(f"| {what} | " + " | ".join(cells) + " |")

        row("shared, accuracy", lambda one: one["shared"]["test"], absolute=True)
        for condition in next(iter(runs.values())):
            if condition != "shared":
                row(
                    f"{condition}, over shared",
                    lambda one, c=condition: one[c]["test"] - one["shared"]["test"],
                )
        tree = "along the tree"
        row(
            "true over random nodes",
            lambda one: one[tree]["test"] - one["along the tree, random nodes"]["test"],
        )
        row(
            "true over permuted groups",
            lambda one: one["two levels"]["test"] - one["two levels, permuted"]["test"],
        )
        row("two levels over one", lambda one: one["two levels"]["test"] - one[tree]["test"])
        row("own over another node's theta", lambda one: one[tree]["test"] - one[tree]["wrong"])
        row(
            "another node's theta, over shared",
            lambda one: one[tree]["wrong"] - one["shared"]["test"],
        )
        row("the root's theta, over shared", lambda one: one[tree]["root"] - one["shared"]["test"])
        row("new groups: shared, accuracy", lambda one: one["shared"]["new"], absolute=True)
        row(
            "new groups: the root's theta, over shared",
            lambda one: one[tree]["new"] - one["shared"]["new"],
        )
        chosen = []
        for size in SIZES:
            times = collections.Counter(
                setting[1] for one in of[size] for setting in one[tree]["settings"]
            )
            chosen.append(", ".join(f"{value:g}: {times[value]}" for value in sorted(times)))
        print("| strengths chosen, how often | " + " | ".join(chosen) + " |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=WORLDS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table or not given.data:
        return table()
    world = WORLDS[given.data]()
    problems = problems_of(world)
    path = RESULTS / f"tying_study_{given.data}.json"

    def done():  # read anew each time, so that two processes can share the sizes
        return json.loads(path.read_text()) if path.exists() else {"data": given.data, "runs": {}}

    for seed in range(given.first, given.seeds):
        for size in given.sizes:
            name = f"{size}/{seed}"
            if name in done()["runs"]:
                continue
            found = run(world, problems, size, seed)
            record = done()
            record["runs"][name] = found
            record["environment"] = environment("jax", "jaxlib", "optax")
            write(path.stem, record)
            print(name, {k: round(v["test"], 4) for k, v in found.items()}, flush=True)


if __name__ == "__main__":
    main()
