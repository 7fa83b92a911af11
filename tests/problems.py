"""Small smooth problems that the tests share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
import jaxmeta.tying as jt
from jaxmeta.bias import diagonal, element, leaf, positive, routed, scalar
from jaxmeta.models import Model

WAYS, WIDTH, FEATURES = 3, 4, 2


def normal(seed, *shape):
    """Numbers for a constant of a module: the same wherever they are asked for; a test draws from
    the fixture `rng`."""
    return np.random.default_rng(seed).normal(size=shape)


def _dense(key, inputs, outputs):
    return {
        "kernel": jax.random.normal(key, (inputs, outputs)) / inputs**0.5,
        "bias": jnp.zeros(outputs),
    }


def _affine(params, x):
    return x @ params["kernel"] + params["bias"][None, :]


def smooth_model(outputs=WAYS):
    """A tanh network, smooth so that finite differences mean something; None for an encoder."""

    def init(key, x):
        key_body, key_head = jax.random.split(key)
        params = {"body": _dense(key_body, x.shape[-1], WIDTH)}
        params = params if outputs is None else params | {"head": _dense(key_head, WIDTH, outputs)}
        return jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)

    def apply(params, x, reference=None):
        hidden = jnp.tanh(_affine(params["body"], x))
        return hidden if outputs is None else _affine(params["head"], hidden)

    return Model(init, apply)


def reader():
    """Of a sequence's places the mean of a smooth net's features, then a linear map."""
    each, last = smooth_model(None), smooth_model()

    def places(params, x):
        return each.apply(params, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], WIDTH).mean(1)

    def init(key, x):
        first = each.init(key, x[0])
        return {"each": first, "last": last.init(key, places(first, x))}

    return Model(
        init,
        lambda params, x, reference=None: last.apply(params["last"], places(params["each"], x)),
    )


def attentive_reader():
    """SNAIL, small and in the dtype of its input."""
    model = jm.models.snail(WAYS, filters=2, reach=4, attention=((2, 2), (2, 2)))
    return model._replace(
        init=lambda key, x: jax.tree.map(lambda leaf: leaf.astype(x.dtype), model.init(key, x))
    )


def classification(dtype=np.float64, shots=2, queries=2):
    """Episodes of Gaussian classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 6)
    inputs = rng.normal(size=(8, FEATURES))[labels] * 2 + rng.normal(size=(48, FEATURES))
    return jm.episodes(jm.pool(inputs.astype(dtype), labels), WAYS, shots, queries)


def batch(sample, tasks=4, seed=1):
    return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(seed), tasks))


@functools.cache
def classified(dtype=np.float64, tasks=4, seed=1):
    """A batch of `classification` tasks, drawn once for all tests."""
    return batch(classification(dtype), tasks, seed)


def one(tasks):
    return jax.tree.map(lambda leaf: leaf[0], tasks)


def learner(steps=3, update=None, model=None):
    return jm.gradient(
        model or smooth_model(), jm.cross_entropy, update or optax.sgd(0.3, momentum=0.5), steps
    )


def undetached(means):
    """So that the gradient is the derivative of the loss, where the authors' code leaves a part
    out."""
    return means


# Every algorithm there is, by name: a function of the mapper.
ALGORITHMS = {
    "maml": lambda over=None: jm.maml(learner(), over=over),
    "fomaml": lambda over=None: jm.fomaml(learner(), over=over),
    "reptile": lambda over=None: jm.reptile(learner(), over=over),
    "anil": lambda over=None: jm.anil(smooth_model(None), learner(), over=over),
    "boil": lambda over=None: jm.boil(learner(), over=over),
    "meta_sgd": lambda over=None: jm.meta_sgd(learner(update=optax.sgd(0.3)), over=over),
    "meta_curvature": lambda over=None: jm.meta_curvature(
        learner(update=optax.sgd(0.3)), over=over
    ),
    "cavia": lambda over=None: jm.cavia(learner(), size=2, over=over),
    # So that the end is stationary, and the gradient the derivative of the loss.
    "imaml": lambda over=None: jm.imaml(learner(steps=60), solver=jm.cg(40), over=over),
    "tree_maml": lambda over=None: jm.algorithms.tree_maml(
        learner(), jm.hierarchy.Tree.star(2), over=over
    ),
    "soft_tree_maml": lambda over=None: jm.algorithms.soft_tree_maml(learner(), 2, (2,), over=over),
    "msr": lambda over=None: jm.algorithms.msr(
        learner(),
        jt.applied({jm.named("kernel"): jt.reparameterised(3, 0.3, 0.5)}, rest=jt.identity()),
        over=over,
    ),
    "t_net": lambda over=None: jm.algorithms.t_net(learner(), over=over),
    "protonet": lambda over=None: jm.protonet(smooth_model(None), WAYS, over=over),
    "scaled_protonet": lambda over=None: jm.algorithms.scaled_protonet(
        smooth_model(None), WAYS, over=over
    ),
    "r2d2": lambda over=None: jm.r2d2(smooth_model(None), WAYS, over=over),
    "maml_plus_plus": lambda over=None: jm.algorithms.maml_plus_plus(
        learner(), jm.named("bias"), over=over
    ),
    "alfa": lambda over=None: jm.algorithms.alfa(learner(), through=undetached, over=over),
    "l2f": lambda over=None: jm.algorithms.l2f(learner(), through=undetached, over=over),
    "bootstrapped_maml": lambda over=None: jm.algorithms.bootstrapped_maml(learner(), 2, over=over),
    "proto_maml": lambda over=None: jm.algorithms.proto_maml(
        learner(), smooth_model(None), over=over
    ),
    "matching_net": lambda over=None: jm.algorithms.matching_net(
        smooth_model(None), WAYS, over=over
    ),
    "local_matching_net": lambda over=None: jm.algorithms.local_matching_net(
        smooth_model(None), WAYS, over=over
    ),
    "relation_net": lambda over=None: jm.algorithms.relation_net(
        smooth_model(None), smooth_model(1), WAYS, over=over
    ),
    "black_box": lambda over=None: jm.algorithms.black_box(
        smooth_model(None), reader(), WAYS, over=over
    ),
    "snail": lambda over=None: jm.algorithms.snail(
        smooth_model(None), WAYS, attentive_reader(), over=over
    ),
    "metaoptnet": lambda over=None: jm.algorithms.metaoptnet(
        smooth_model(None), WAYS, learned={"log_cost": -1.0, "log_scale": 2.0}, over=over
    ),
    # Without the term whose derivative holds the end of learning constant.
    "leo": lambda over=None: jm.algorithms.leo(
        smooth_model(None),
        smooth_model(4),
        smooth_model,
        WAYS,
        0.5,
        3,
        latent_steps=2,
        drift=0.0,
        over=over,
    ),
    "baseline_plus_plus": lambda over=None: jm.algorithms.baseline_plus_plus(
        smooth_model(None), 8, WAYS, steps=3, over=over
    ),
}

# Estimators whose gradient is no derivative of the outer loss, by definition.
INEXACT = ("fomaml", "reptile", "bootstrapped_maml")


def _weight_decayed(log_decay, momentum):
    def penalty(phi, start):
        return jnp.exp(log_decay) * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(phi))

    return learner(update=optax.sgd(0.3, momentum=momentum))._replace(penalty=penalty)


# Every bias there is, in every form it has.
BIASES = {
    "initialisation": jm.initialisation(),
    "initialisation of the head": jm.initialisation(jm.named("head")),
    "shared body": jm.compose(jm.shared(jm.excluding("head")), jm.initialisation()),
    "shared by step": jm.compose(jm.shared(jm.named("bias"), steps=2), jm.initialisation()),
    "step size": jm.compose(jm.initialisation(), jm.step_sizes(0.7, each=scalar)),
    "step sizes a leaf and step, positive": jm.compose(
        jm.initialisation(), jm.step_sizes(0.7, each=leaf, steps=2, link=positive)
    ),
    "step sizes an element": jm.compose(jm.initialisation(), jm.step_sizes(0.7, each=element)),
    "kronecker": jm.compose(jm.initialisation(), jm.preconditioner()),
    "diagonal": jm.compose(jm.initialisation(), jm.preconditioner(diagonal)),
    "momentum": jm.compose(jm.initialisation(), jm.step_sizes(0.7, each=leaf), jm.momentum(0.6)),
    "proximal": jm.compose(jm.initialisation(), jm.proximal(2.0)),
    "fixed proximal": jm.compose(jm.initialisation(), jm.fixed(jm.proximal(2.0))),
    "tied": jm.compose(
        jm.bias.tied(jt.applied({jm.named("kernel"): jt.soft_by_index(3)}, rest=jt.identity())),
        jm.shared(jm.named("structure")),
        jm.initialisation(),
    ),
    "context": jm.context(2),
    "routed": routed(jm.initialisation(), smooth_model(2), (2, 2)),
    "representation": jm.compose(
        jm.hyperparameters(lambda **settings: jm.ridge(WAYS, **settings), log_strength=0.5),
        jm.representation(smooth_model(None)),
    ),
    "hyperparameters": jm.compose(
        jm.hyperparameters(_weight_decayed, log_decay=-2.0, momentum=0.4), jm.initialisation()
    ),
}
