"""Records of the methods that learn a representation, and a head for each task on it."""

from __future__ import annotations

from jaxmeta.experiment._method import BUILDERS, ours

_UNROLLED = "through all inner steps"
_SOLVED = dict(inner_rate=(0.0, 0.0), inner_steps=0, evaluation_steps=0)

ENCODING = ours(
    protonet=dict(
        learned="representation",
        derivative="no inner steps: class means",
        paper="Snell et al., NeurIPS 2017",
        ours="Training has the ways that are judged; the paper has more, on Omniglot 60.",
        **_SOLVED,
    ),
    scaled_protonet=dict(
        learned="representation, scale of the distances",
        derivative="no inner steps: class means",
        paper="Oreshkin et al., NeurIPS 2018",
        ours="Of the paper there is the scale alone, begun at e^-3, and neither its conditioning "
        "on the task nor its training on a second problem.",
        **_SOLVED,
    ),
    matching_net=dict(
        learned="representation",
        derivative="no inner steps: attention over the support",
        paper="Vinyals et al., NeurIPS 2016",
        ours="There are no full context embeddings, and cosines are scaled by 10.",
        **_SOLVED,
    ),
    local_matching_net=dict(
        learned="representation of places",
        derivative="no inner steps: places matched with places nearby",
        paper="after Li et al., CVPR 2019",
        ours="All but the aim: DN4 sums the cosines of the 3 places most alike, anywhere; here "
        "mixtures in squared distances explain places by places nearby, in both directions.",
        image_model="conv_places",
        **_SOLVED,
    ),
    relation_net=dict(
        learned="representation and comparator",
        derivative="no inner steps: a net compares",
        paper="Sung et al., CVPR 2018",
        ours="The criterion is cross entropy, theirs the squared error; the comparator is one "
        "hidden layer on the features, theirs two convolutions on maps.",
        **_SOLVED,
    ),
    black_box=dict(
        learned="a transformer that reads the support",
        derivative="no inner steps: in context",
        paper="after Kirsch et al., 2022",
        ours="All but the idea: a transformer without positions on an encoder's features, labels "
        "one-hot and as many as the ways; theirs reads raw data with inputs and labels "
        "projected at random.",
        extends=False,
        **_SOLVED,
    ),
    snail=dict(
        learned="convolutions and attention that read the support",
        derivative="no inner steps: in context",
        paper="Mishra et al., ICLR 2018",
        ours="Its convolutions look back over 64 places, the paper's over an episode's length; its "
        "encoder is whatever is given.",
        extends=False,
        **_SOLVED,
    ),
    leo=dict(
        learned="encoder and decoder of the classes' latent codes, a rate for each dimension",
        derivative=_UNROLLED,
        paper="Rusu et al., ICLR 2019",
        ours="The encoder is trained with the rest, theirs is pretrained; weights are decoded "
        "without a variance, the divergence is exact, and there is no penalty on the nets. "
        "See jaxmeta.bias.latent.",
        inner_rate=(1.0, 1.0),
        inner_steps=10,
        evaluation_steps=10,
    ),
    baseline_plus_plus=dict(
        learned="encoder and cosine classifier of all training classes",
        derivative="no inner steps: ordinary learning, fine-tuned in evaluation",
        paper="Chen et al., ICLR 2019",
        ours="Fine-tuning by 20 steps of rate 1 on the whole support, on heads without learned "
        "norms; theirs is 100 epochs of batches of 4, of rate 0.01, with momentum and decay.",
        inner_rate=(1.0, 1.0),
        inner_steps=20,
        evaluation_steps=20,
        sample=f"{BUILDERS}:batches",
    ),
    metaoptnet=dict(
        learned="representation, scale of the machine's logits",
        derivative="through the optimum of a support vector machine",
        paper="Lee et al., CVPR 2019",
        ours="The scale begins at e^2, theirs at 1. Solved otherwise than by their interior point "
        "method, to the same optimum.",
        **_SOLVED,
    ),
    r2d2=dict(
        learned="representation, strength of the ridge",
        derivative="through the closed form of ridge regression",
        paper="Bertinetto et al., ICLR 2019",
        ours="As the paper's equation; the authors' code (head=mean_ridge) has a bias in it and a "
        "strength by example, and draws ways and shots in training.",
        **_SOLVED,
    ),
)
