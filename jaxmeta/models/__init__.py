"""Models: pairs of pure functions `(init, apply)`, and adapters for modules of flax and equinox."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.models._adapters import equinox as equinox, linen as linen, nnx as nnx
    from jaxmeta.models._conv import conv4 as conv4, conv_places as conv_places
    from jaxmeta.models._conv1d import conv1d as conv1d
    from jaxmeta.models._convolution import dot_conv as dot_conv, lax_conv as lax_conv
    from jaxmeta.models._film import conv4_film as conv4_film, film as film
    from jaxmeta.models._in_context import in_context_transformer as in_context_transformer
    from jaxmeta.models._language_model import language_model as language_model
    from jaxmeta.models._mlp import mlp as mlp
    from jaxmeta.models._model import Model as Model
    from jaxmeta.models._normalisation import (
        batch_norm as batch_norm,
        group_norm as group_norm,
        layer_norm as layer_norm,
        none as none,
    )
    from jaxmeta.models._resnet import resnet12 as resnet12
    from jaxmeta.models._snail import snail as snail
    from jaxmeta.models._transformer import transformer as transformer
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
