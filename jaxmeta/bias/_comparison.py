"""Learners that compare or read instead of adapting: all of them is the high level's, learning is
over where it starts.

Axis letters: `n` examples, `D` features, `S` support examples.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check
from jaxmeta.base import Bias, Examples
from jaxmeta.bias._representation import embed
from jaxmeta.learner.closed_form import (
    class_sums,
    or_infinite,
    parted,
    supported_cross_entropy,
    without,
)
from jaxmeta.models import Model
from jaxmeta.process import no_penalty


def comparison(encoder: Model, comparator: Model, ways: int) -> Bias:
    r"""Relation networks: a net says how well an example goes with what is known of a class.

    $$ logit_w(x) = g\big([\textstyle\sum_{i: y_i = w} f(x_i),\; f(x)]\big) $$

    Args:
      encoder: f, `[n, ...] -> [n, D]`.
      comparator: g, `[n, 2 D] -> [n, 1]`.
      ways: Number of classes in a task.

    Returns:
      A `Bias` whose theta is `{"encoder", "comparator"}`; it replaces how the learner starts,
      measures and moves. The criterion is cross entropy, where the paper has squared error (ours).

    Reference: Sung et al., Learning to compare: relation network for few-shot learning, CVPR 2018.
    """
    _check.whole_number("ways", ways, least=1)

    def init(key, task, learner):
        key_encoder, key_comparator = jax.random.split(key)
        theta = {"encoder": encoder.init(key_encoder, task.support.x)}
        x = encoder.apply(theta["encoder"], task.support.x)
        return theta | {
            "comparator": comparator.init(key_comparator, jnp.concatenate([x, x], axis=1))
        }

    def start(key, theta, support: Examples):
        sums, counts = class_sums(support, ways)
        return or_infinite(sums, counts[:, None] != 0)

    def logits(theta, phi, x):
        finite, absent = parted(phi, axis=1)
        pairs = jnp.concatenate(
            [jnp.tile(finite, (len(x), 1)), jnp.repeat(x, ways, axis=0)], axis=1
        )
        return without(comparator.apply(theta["comparator"], pairs).reshape(len(x), ways), absent)

    return _read(encoder, init, start, logits)


def in_context(encoder: Model, reader: Model, ways: int) -> Bias:
    r"""A black-box learner: a net reads the support with its labels, and one query without, and
    says the query's label.

    $$ logits(x) = g\big((f(x_{\pi 1}), 0, e_{y_{\pi 1}}), \ldots,
       (f(x_{\pi S}), 0, e_{y_{\pi S}}), (f(x), 1, 0)\big) $$

    The order pi is drawn anew for each task, in training and in evaluation. Episodes come class by
    class, so that in that order a place would say its label, and a reader that knows places would
    need to read none.

    Args:
      encoder: f, `[n, ...] -> [n, D]`.
      reader: g, from sequences `[n, S + 1, D + ways + 1]` to `[n, ways]`, such as
        `jaxmeta.models.in_context_transformer(ways)` or `jaxmeta.models.snail(ways)`, which say
        what they make of the last place; each query is read by itself.
      ways: Number of classes in a task.

    Returns:
      A `Bias` whose theta is `{"encoder", "reader"}`; it replaces how the learner starts, measures
      and moves.

    Raises:
      ValueError: While tracing, for a support with weights.

    References: Mishra et al., A simple neural attentive meta-learner (SNAIL), ICLR 2018; Kirsch et
    al., General-purpose in-context learning by meta-learning transformers, 2022.
    """
    _check.whole_number("ways", ways, least=1)

    def marked(x, labels, query):
        return jnp.concatenate([x, jnp.full((len(x), 1), query, x.dtype), labels], axis=1)

    def start(key, theta, support: Examples):
        order = jax.random.permutation(key, len(support.x))
        return solve(theta, support._replace(x=support.x[order], y=support.y[order]))

    def solve(theta, support: Examples):
        if support.weight is not None:
            raise ValueError(
                "a net that reads the support in context reads all of it, got a support with "
                "weights; give tasks of one size, without padding"
            )
        return marked(support.x, jax.nn.one_hot(support.y, ways, dtype=support.x.dtype), 0)

    def sequences(phi, x):
        query = marked(x, jnp.zeros((len(x), ways), x.dtype), 1)
        return jnp.concatenate(
            [jnp.broadcast_to(phi, (len(x), *phi.shape)), query[:, None]], axis=1
        )

    def init(key, task, learner):
        key_encoder, key_reader = jax.random.split(key)
        theta = {"encoder": encoder.init(key_encoder, task.support.x)}
        support = embed(encoder, theta["encoder"], task.support)
        return theta | {
            "reader": reader.init(key_reader, sequences(solve(theta, support), support.x[:1]))
        }

    return _read(
        encoder, init, start, lambda theta, phi, x: reader.apply(theta["reader"], sequences(phi, x))
    )


def _read(encoder, init, begin, logits) -> Bias:
    """The bias whose learner starts at `begin(key, theta, support)`, is judged by
    `logits(theta, phi, f(x))` and stays."""

    def shape(theta, task, learner):
        def start(key, task):
            return begin(key, theta, embed(encoder, theta["encoder"], task.support))

        def predict(key, phi, batch):
            return logits(theta, phi, embed(encoder, theta["encoder"], batch).x)

        def loss(key, phi, batch):
            return supported_cross_entropy(predict(key, phi, batch), batch)

        return learner._replace(
            start=start,
            loss=loss,
            predict=predict,
            penalty=no_penalty,
            update=optax.set_to_zero(),
            steps=0,
        )

    return Bias(init, shape)
