"""Every model through one contract: shapes, transformations, dtypes, derivatives, the reference,
refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.models import (
    batch_norm,
    conv1d,
    conv4,
    conv4_film,
    conv_places,
    film,
    group_norm,
    in_context_transformer,
    lax_conv,
    layer_norm,
    mlp,
    none,
    resnet12,
    snail,
    transformer,
)

IMAGES, WINDOWS, VECTORS = (5, 9, 9, 1), (5, 16, 3), (5, 7)
SMALL = {"filters": 4, "blocks": 2}
MODELS = {
    "mlp": (mlp([6, 6], 3), VECTORS),
    "conv4": (conv4(3, **SMALL), IMAGES),
    "conv4 plain": (conv4(3, convolution=lax_conv, **SMALL), IMAGES),
    "conv4 layer": (conv4(3, norm=layer_norm, **SMALL), IMAGES),
    "conv4 group": (conv4(3, norm=group_norm(2), **SMALL), IMAGES),
    "conv4 none": (conv4(3, norm=none, **SMALL), IMAGES),
    "conv_places": (conv_places(3, filters=4, layers=1), IMAGES),
    "conv1d": (conv1d(3, **SMALL), WINDOWS),
    "film": (film(mlp([6], None), 3, size=2), VECTORS),
    "conv4_film": (conv4_film(3, size=2, filters=4), (5, 17, 16, 3)),
    "resnet12": (resnet12(3, widths=(4, 6)), IMAGES),
    "transformer": (transformer(3, width=6, heads=2), WINDOWS),
    "in_context_transformer": (in_context_transformer(3, width=6, heads=2, blocks=1), WINDOWS),
    "snail": (snail(3, filters=3, reach=4, attention=((3, 2), (3, 2))), WINDOWS),
}
BATCH = {"conv4", "conv4 plain", "conv4_film", "conv_places", "conv1d", "resnet12"}
# To compile; the whole suite has them.
COSTLY = {
    "resnet12",
    "conv4_film",
    "conv4 plain",
    "conv4 layer",
    "conv4 group",
    "transformer",
    "in_context_transformer",
}
LONG = {"conv_places", "conv4_film", "conv4 none", "transformer"}  # of parts that others have too
each = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in MODELS],
)


def setup(name, dtype="float64"):
    model, shape = MODELS[name]
    x = jax.random.normal(jax.random.key(1), shape, dtype)
    leaves, tree = jax.tree.flatten(jax.jit(model.init)(jax.random.key(0), x))
    keys = jax.random.split(
        jax.random.key(2), len(leaves)
    )  # away from scale 1, offset 0, with some scales negative
    leaves = [
        leaf.astype(dtype) + 0.7 * jax.random.normal(k, leaf.shape, dtype)
        for k, leaf in zip(keys, leaves)
    ]
    return model, jax.tree.unflatten(tree, leaves), x


def close(a, b, rtol=1e-10):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(
            left, right, rtol=0, atol=rtol * max(1.0, float(jnp.abs(right).max()))
        )


@each
def test_transformations_keep_the_values(name):
    model, params, x = setup(name)
    y, apply = model.apply(params, x), jax.jit(model.apply)
    assert y.shape == (5, 3) and bool(jnp.isfinite(y).all())
    close(apply(params, x), y)
    twice = jax.tree.map(lambda leaf: 2 * leaf, params)
    several = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, twice)
    close(jax.jit(jax.vmap(model.apply, (0, None)))(several, x), jnp.stack([y, apply(twice, x)]))
    close(jax.jit(jax.vmap(model.apply, (None, 0)))(params, jnp.stack([x, x + 1]))[0], y)


@each
def test_parameters_are_plain_float32_with_the_documented_names(name):
    model, shape = MODELS[name]
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape, "float32"))
    parts = {"body", "film", "head"} if "film" in name else {"body", "head"}
    assert (
        type(params) is dict and set(params) == parts and set(params["head"]) == {"kernel", "bias"}
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    names = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params["body"])
    }
    assert all(
        n.split("/")[-2].startswith(("conv", "norm", "dense")) for n in names - {"positions"}
    )
    if name in BATCH:
        assert any(n.endswith("norm1/scale") for n in names) and any(
            n.endswith("norm1/offset") for n in names
        )


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(name, dtype):
    model, params, x = setup(name, dtype)
    assert jax.eval_shape(model.apply, params, x).dtype == dtype
    grads = jax.eval_shape(jax.grad(lambda p: model.apply(p, x).sum()), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    "make, shape",
    [
        (partial(conv4, 3, **SMALL), IMAGES),
        (partial(conv1d, 3, **SMALL), WINDOWS),
        (partial(mlp, [6], 3), VECTORS),
        (partial(resnet12, 3, widths=(4,)), IMAGES),
        (partial(transformer, 3, width=6, heads=2), WINDOWS),
    ],
    ids=["conv4", "conv1d", "mlp", "resnet12", "transformer"],
)
def test_bfloat16_computes_near_float32(make, shape):
    x = jax.random.normal(jax.random.key(1), shape, "float32")
    params = jax.jit(make().init)(jax.random.key(0), x)
    y = jax.jit(make(dtype=jnp.bfloat16).apply)(params, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype("float32"), jax.jit(make().apply)(params, x), atol=0.1)


def test_images_of_bytes_are_taken():
    model = conv4(3, **SMALL)
    x = jnp.arange(5 * 81).reshape(IMAGES).astype("uint8")
    assert (
        jax.eval_shape(lambda x: model.apply(model.init(jax.random.key(0), x), x), x).dtype
        == jnp.float32
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long)
        if name in LONG
        else pytest.param(name, marks=pytest.mark.slow)
        if name in COSTLY
        else name
        for name in MODELS
    ],
)
def test_second_order_gradients_agree_with_finite_differences(name):
    model, params, x = setup(name)
    direction = jax.tree.map(jnp.cos, params)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(model.apply(p, x)))))
    product = jax.jit(lambda p: jax.jvp(gradient, (p,), (direction,))[1])(params)
    reverse = jax.jit(
        jax.grad(
            lambda p: sum(
                jnp.vdot(a, b)
                for a, b in zip(jax.tree.leaves(gradient(p)), jax.tree.leaves(direction))
            )
        )
    )(params)
    close(product, reverse)
    h = 1e-6
    up, down = (gradient(jax.tree.map(lambda p, d: p + s * d, params, direction)) for s in (h, -h))
    close(product, jax.tree.map(lambda a, b: (a - b) / (2 * h), up, down), rtol=1e-5)


@each
def test_reference_keeps_a_query_from_seeing_other_queries(name):
    model, params, x = setup(name)
    apply, moved = jax.jit(model.apply), x.at[4].add(1.0)
    y = apply(params, x)
    close(apply(params, x, jnp.ones(5, bool)), y)
    reference = jnp.arange(5) < 3
    marked = apply(params, x, reference)
    close(marked[:4], apply(params, moved, reference)[:4])
    close(marked[:3], apply(params, x[:3]))
    moved = jnp.abs(apply(params, moved)[:4] - y[:4]).max()
    assert (moved > 1e-6) == (name in BATCH)


@pytest.mark.parametrize(
    "make, shape, features",
    [
        (lambda: conv4(**SMALL), (5, 8, 8, 1), (16,)),
        (lambda: conv_places(**SMALL), IMAGES, (3, 3, 4)),
        (lambda: conv1d(**SMALL), WINDOWS, (4,)),
        (lambda: resnet12(widths=(4, 6)), IMAGES, (6,)),
        (lambda: mlp([6, 5], None), VECTORS, (5,)),
        (lambda: transformer(width=6, heads=2), WINDOWS, (6,)),
    ],
)
def test_without_outputs_a_model_gives_features(make, shape, features):
    model = make()
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))
    assert set(params) == {"body"} and jax.eval_shape(
        model.apply, params, jnp.ones(shape)
    ).shape == (5, *features)


def test_a_context_scales_and_shifts_features_that_do_not_see_it():
    encoder = conv4(**SMALL)
    x, context = (
        jax.random.normal(jax.random.key(0), (5, 8, 8, 1)),
        jax.random.normal(jax.random.key(1), (3,)),
    )
    joined = jnp.concatenate(
        [x, jnp.broadcast_to(context[None, None, None], (5, 8, 8, 3))], axis=-1
    )
    model = film(encoder, 2, size=3)
    params = jax.tree.map(lambda leaf: leaf + 0.3, model.init(jax.random.key(2), joined))
    to, head = jax.tree.map(np.asarray, (params["film"], params["head"]))
    gamma, beta = np.split(np.asarray(context) @ to["kernel"] + to["bias"], 2)
    expected = ((1 + gamma) * np.asarray(encoder.apply(params["body"], x)) + beta) @ head[
        "kernel"
    ] + head["bias"]
    close(model.apply(params, joined), expected)
    assert film(encoder, 2, size=3) is model


def test_standard_sizes():
    x = jnp.ones((2, 28, 28, 1), "float32")
    params = jax.eval_shape(conv4(5).init, jax.random.key(0), x)
    assert (
        sum(leaf.size for leaf in jax.tree.leaves(params))
        == 9 * 64 + 3 * 9 * 64 * 64 + 8 * 64 + 64 * 5 + 5
    )
    wide = jax.eval_shape(
        resnet12(5, (64, 160, 320, 640)).init,
        jax.random.key(0),
        jnp.ones((2, 84, 84, 3), "float32"),
    )
    assert 12.3e6 < sum(leaf.size for leaf in jax.tree.leaves(wide)) < 12.6e6


@pytest.mark.parametrize(
    "model, shape, words",
    [
        (conv4(3), (28, 28, 1), r"conv4 takes a batch \[n, h, w, c\].*\(28, 28, 1\).*x\[None\]"),
        (conv4(3), (2, 8, 28, 1), r"at least 16.*\(8, 28\).*fewer blocks"),
        (conv1d(3), (2, 28, 28, 1), r"conv1d takes a batch \[n, l, c\]"),
        (resnet12(3), (2, 84, 84), r"resnet12 takes a batch"),
        (transformer(3), (28, 28), r"transformer takes a batch \[n, l, c\]"),
        (mlp([3], 1), (7,), r"mlp takes a batch \[n, features\]"),
        (
            film(mlp([3], None), 1, size=7),
            (2, 7),
            r"last 7 channels are context, got 7 channels.*join the context",
        ),
        (
            conv4(3, norm=group_norm(5), filters=4),
            (2, 28, 28, 1),
            r"divides the channels, got 5 groups and 4",
        ),
    ],
)
def test_refuses_inputs_of_another_shape(model, shape, words):
    with pytest.raises(ValueError, match=words):
        model.init(jax.random.key(0), jnp.ones(shape))


@each
def test_refuses_other_channels_than_at_init(name):
    model, params, x = setup(name)
    with pytest.raises(
        ValueError, match=r"was made with a kernel of shape .* give inputs like those of init"
    ):
        model.apply(params, jnp.concatenate([x, x], -1))


def test_refuses_settings():
    with pytest.raises(ValueError, match="odd width, got 4; take 5"):
        conv1d(3, width=4)
    with pytest.raises(ValueError, match="at least one group, got 0"):
        group_norm(0)


def test_batch_norm_normalises():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 2)) * 5 + 2
    y = batch_norm().apply({"params": {"scale": jnp.ones(2), "offset": jnp.zeros(2)}}, x)
    close((y.mean((0, 1, 2)), y.var((0, 1, 2))), (jnp.zeros(2), jnp.ones(2)), rtol=1e-5)


@pytest.mark.slow
def test_a_margin_is_zeros_around_the_image_so_that_nothing_is_dropped():
    image = jax.random.normal(jax.random.key(0), (2, 12, 12, 1), jnp.float32)
    plain, wide = conv4(None, filters=4, blocks=3), conv4(None, filters=4, blocks=3, margin=2)
    params = jax.jit(wide.init)(jax.random.key(1), image)
    padded = jnp.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_array_equal(wide.apply(params, image), plain.apply(params, padded))
    corner = jnp.zeros_like(image).at[:, -1, -1].set(1.0)
    assert (
        float(jnp.abs(wide.apply(params, image + corner) - wide.apply(params, image)).max()) > 1e-3
    )
    with pytest.raises(ValueError, match="spatial size of at least 4, got \\(3, 3\\)"):
        wide.init(jax.random.key(0), image[:, :3, :3])
