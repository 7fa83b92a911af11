"""Models: pairs of pure functions `(init, apply)`, and adapters for modules of flax and equinox."""

from ._adapters import equinox, linen, nnx
from ._conv import conv4, conv_places
from ._conv1d import conv1d
from ._convolution import dot_conv, lax_conv
from ._film import conv4_film, film
from ._in_context import in_context_transformer
from ._language_model import language_model
from ._mlp import mlp
from ._model import Model
from ._normalisation import batch_norm, group_norm, layer_norm, none
from ._resnet import resnet12
from ._snail import snail
from ._transformer import transformer

__all__ = [
    "Model",
    "batch_norm",
    "conv1d",
    "conv4",
    "conv4_film",
    "conv_places",
    "dot_conv",
    "equinox",
    "film",
    "group_norm",
    "in_context_transformer",
    "language_model",
    "lax_conv",
    "layer_norm",
    "linen",
    "mlp",
    "nnx",
    "none",
    "resnet12",
    "snail",
    "transformer",
]
