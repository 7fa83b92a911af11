import os
import pathlib
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import draw, learner, lines, sample, train

import jaxmeta as jm
from jaxmeta.training import Interrupted, NonFinite, console


def test_an_inner_rate_that_diverges_stops_the_run(tmp_path):
    with pytest.raises(
        NonFinite, match=r"not finite at step 1, in task 0, 1, 2, 3 of .* inner learning"
    ) as caught:
        train(tmp_path, 20, algorithm=jm.maml(learner(rate=1e80, steps=20)))
    assert (
        caught.value.step == 1
        and caught.value.tasks == [0, 1, 2, 3]
        and caught.value.checkpoint is None
    )
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(jax.device_get(caught.value.fitted.state.theta))
    )


@pytest.mark.parametrize("harm", ["loss", "gradient"])
@pytest.mark.parametrize("per_call", [None, 5])
def test_one_bad_task_of_one_step_is_named_and_moves_nothing(tmp_path, harm, per_call):
    """Task 2 of batch 10, of a stream whose batches are otherwise good: found in the middle of a
    call."""
    batches = [
        jax.device_get(jax.vmap(sample)(jax.random.split(jax.random.key(i), 4))) for i in range(12)
    ]
    good = train(tmp_path / "good", 10, sample=batches, checkpoint_every=4)
    bad = np.array(batches[10].query.y)
    bad[2] = np.nan if harm == "loss" else 1e200  # A loss of 1e400 is infinite.
    if harm == "gradient":
        bad[2] = 7.0
    batches[10] = batches[10]._replace(query=batches[10].query._replace(y=bad))
    plain = learner()

    def loss(key, phi, batch):
        value, aux = plain.loss(key, phi, batch)
        # sqrt has a finite value and an infinite derivative at zero.
        return value + jnp.sqrt(jnp.where(batch.y[0] == 7.0, 0.0, 1.0) * (phi["slope"] ** 2)), aux

    algorithm = jm.maml(plain._replace(loss=loss))
    sentence = r"at step 11, in task 2 of the meta-batch; .*; the last good checkpoint is .*/8$"
    with pytest.raises(NonFinite, match=sentence) as e:
        train(
            tmp_path / "run",
            12,
            sample=batches,
            algorithm=algorithm,
            checkpoint_every=4,
            steps_per_call=per_call,
        )
    assert e.value.checkpoint == tmp_path / "run" / "checkpoints" / "8"
    assert int(e.value.fitted.state.step) == 10 == int(good.state.step)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(e.value.fitted.state))
    )
    assert lines(tmp_path / "run")[-1]["step"] == 10


def test_a_bad_step_of_a_sampler_leaves_the_state_of_the_step_before():
    def spoilt(scale, key):
        task = draw(scale, key)
        rare = jax.random.uniform(jax.random.fold_in(key, 1)) < 0.02
        return task._replace(query=task.query._replace(y=jnp.where(rare, jnp.nan, task.query.y)))

    spoilt = jax.tree_util.Partial(spoilt, jnp.full((), 0.3))
    with pytest.raises(NonFinite) as caught:
        train(None, 400, sample=spoilt, validation=None, steps_per_call=50)
    step = caught.value.step
    assert step > 3 and len(caught.value.tasks) >= 1
    chex.assert_trees_all_equal(
        caught.value.fitted.state, train(None, step - 1, sample=spoilt, validation=None).state
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_resume(tmp_path, number):
    def press(event):
        if event.kind == "train" and event.step == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sentence = f"{number.name} after step 7 of 16: saved .*/7; resume with resume=True"
    with pytest.raises(Interrupted, match=sentence) as caught:
        train(tmp_path / "parts", 16, steps_per_call=1, progress=press)
    assert caught.value.exit_code == 128 + number and int(caught.value.fitted.state.step) == 7
    assert signal.getsignal(number) is before
    resumed = train(tmp_path / "parts", 16, resume=True)
    chex.assert_trees_all_equal(resumed.state, train(tmp_path / "straight", 16).state)
    assert lines(tmp_path / "parts") == lines(tmp_path / "straight")


def test_a_signal_without_a_folder_says_that_nothing_was_saved():
    with pytest.raises(Interrupted, match="nothing was saved"):
        train(
            None,
            8,
            progress=lambda event: event.kind == "start" and os.kill(os.getpid(), signal.SIGINT),
        )


@pytest.mark.filterwarnings(
    "ignore:the checkpoint of step:UserWarning"
)  # killed before its digests were written
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_resumes_bit_for_bit(tmp_path, number):
    """SIGINT saves first; SIGKILL comes as it may, in the middle of a save as like as not."""
    script = pathlib.Path(__file__).with_name("small.py")
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "parts", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
    )
    for said in process.stdout:
        if said.startswith("train") and int(said.split()[1]) >= 20:
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert "Interrupted: SIGINT after step" in errors and "resume=True" in errors
    assert process.returncode != 0
    reached = max(
        int(path.name)
        for path in (tmp_path / "parts" / "checkpoints").iterdir()
        if path.name.isdigit()
    )
    steps = (reached // 8 + 2) * 8
    resumed = train(tmp_path / "parts", steps, key=3, resume=True)
    assert not [path for path in (tmp_path / "parts").rglob("*") if "tmp" in path.name]
    straight = train(tmp_path / "straight", steps, key=3)
    chex.assert_trees_all_equal(resumed.state, straight.state)
    assert lines(tmp_path / "parts") == lines(tmp_path / "straight")


class _Terminal:
    def __init__(self, tty):
        self.text, self.tty = "", tty

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.tty


def test_lines_without_a_terminal_and_a_bar_with_one(tmp_path):
    file = _Terminal(False)
    train(tmp_path, 8, progress=console(file, every=0.0))
    assert (
        "compiled in" in file.text
        and "tasks/s" in file.text
        and "validation after step 8: accuracy" in file.text
    )
    assert "saved" in file.text
    terminal = _Terminal(True)
    train(None, 8, progress=console(terminal))
    assert "8/8" in terminal.text and "accuracy" in terminal.text
