"""Records of the methods that adapt a model by inner steps."""

from __future__ import annotations

from jaxmeta.experiment._method import BUILDERS, ours

_UNROLLED = "through all inner steps"
_CONTEXT = dict(inner_rate=(1.0, 1.0), inner_steps=2, evaluation_steps=2, extends=False)

ADAPTING = ours(
    maml=dict(
        learned="initialisation",
        derivative=_UNROLLED,
        paper="Finn et al., ICML 2017",
        ours="Normalisation's scale and offset move in the inner loop, in the authors' code they "
        "do not; their net strides where ours pools.",
    ),
    fomaml=dict(
        learned="initialisation",
        derivative="first order: inner gradients held constant",
        paper="Finn et al., ICML 2017",
        ours="As for MAML.",
    ),
    reptile=dict(
        learned="initialisation",
        derivative="none: towards where learning ends",
        paper="Nichol et al., 2018",
        ours="Minibatches are drawn anew for each step and not in shuffled rounds, and the memory "
        "of Adam begins anew in every task.",
        inner_rate=(1e-3, 1e-3),
        inner_steps=5,
        evaluation_steps=50,
        tasks=5,
        shots=(10, 1),
        outer_rate=1.0,
        optimiser=f"{BUILDERS}:annealed_sgd",
    ),
    anil=dict(
        learned="representation, initialisation of the head",
        derivative=_UNROLLED,
        paper="Raghu et al., ICLR 2020",
        ours="The head has no offset and begins at zero.",
        inner_steps=3,
    ),
    boil=dict(
        learned="initialisation of the body, shared head",
        derivative=_UNROLLED,
        paper="Oh et al., ICLR 2021",
        ours="",
        evaluation_steps=1,
        extends=False,
    ),
    meta_sgd=dict(
        learned="initialisation, a step size for each element",
        derivative=_UNROLLED,
        paper="Li et al., 2017",
        ours="Rates are learned factors, begun at 1, of the learner's; the paper draws rates from "
        "0.005 to 0.1.",
        evaluation_steps=1,
    ),
    meta_curvature=dict(
        learned="initialisation, Kronecker factors on the gradient",
        derivative=_UNROLLED,
        paper="Park and Oliva, NeurIPS 2019",
        ours="A vector's gradient has a full matrix, in the common port a diagonal one.",
        evaluation_steps=1,
    ),
    t_net=dict(
        learned="initialisation, a warp of the outputs of each layer",
        derivative=_UNROLLED,
        paper="Lee and Choi, ICML 2018",
        ours="Offsets are not warped, in the authors' code they are; normalisation moves in the "
        "inner loop. WarpGrad's own objective, over the points of all paths, is not what is "
        "descended.",
    ),
    cavia=dict(
        learned="all weights; a context that modulates features adapts",
        derivative=_UNROLLED,
        paper="after Zintgraf et al., ICML 2019",
        ours="The context modulates the last features, after the nonlinearity, by 1 + gamma; "
        "cavia_conv4 is the authors'.",
        **_CONTEXT,
    ),
    cavia_conv4=dict(
        learned="all weights; a context that modulates the third layer adapts",
        derivative=_UNROLLED,
        paper="Zintgraf et al., ICML 2019",
        ours="Context and rate are the paper's of miniImageNet; it has no Omniglot.",
        image_model="conv4_film",
        optimiser=f"{BUILDERS}:clipped_by_element",
        **_CONTEXT,
    ),
    imaml=dict(
        learned="initialisation, to which adaptation is held",
        derivative="where learning ends, by the implicit function theorem",
        paper="Rajeswaran et al., NeurIPS 2019",
        ours="The proximal term acts in every inner step of training, as in the paper; the "
        "authors' code applies it once, after plain steps. Its damping is taken, the outer "
        "rate is ours.",
        inner_rate=(0.1, 0.05),
        inner_steps=16,
        evaluation_steps=16,
        outer_rate=5e-3,
        optimiser="jaxmeta.training:outer_adam",
    ),
    maml_plus_plus=dict(
        learned="initialisation, rates and normalisation by step",
        derivative="through all inner steps, each judged at first",
        paper="Antoniou et al., ICLR 2019",
        ours="The head begins at zero, losses are annealed by estimate and not by epoch, and one "
        "net is judged and not an ensemble of five.",
        inner_rate=(0.1, 0.05),
        inner_steps=5,
        evaluation_steps=5,
        optimiser="jaxmeta.training:outer_adam",
    ),
    alfa=dict(
        learned="initialisation, a net that sets rates and decays",
        derivative=_UNROLLED,
        paper="Baik et al., NeurIPS 2020",
        ours="Normalisation moves in the inner loop too, which has 1 step; theirs leaves it alone "
        "and has 5.",
        evaluation_steps=1,
    ),
    l2f=dict(
        learned="initialisation, a net that says what to forget",
        derivative=_UNROLLED,
        paper="Baik et al., CVPR 2020",
        ours="Normalisation's scale and offset are attenuated and move, theirs are left alone; "
        "theirs may learn rates besides.",
    ),
    bootstrapped_maml=dict(
        learned="initialisation",
        derivative="towards where more steps lead, that target held constant",
        paper="Flennerhag et al., ICLR 2022",
        ours="The distance to the target is that of the parameters; that of predictions, which the "
        "paper has too, is an argument.",
    ),
    proto_maml=dict(
        learned="initialisation of the body; the head begins at prototypes",
        derivative=_UNROLLED,
        paper="Triantafillou et al., ICLR 2020",
        ours="Normalisation's scale and offset move in the inner loop; Meta-Dataset's code can "
        "leave them alone.",
        inner_rate=(0.05, 0.02),
    ),
)
