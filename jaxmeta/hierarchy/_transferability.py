"""How well labels follow from what a source model says or represents, without training: LEEP, NCE,
H-score, LogME.

All in numpy's float64, whatever the precision of jax. Axis letters: `C` concepts, `n` examples, `Z`
classes of the source, `d` features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from jaxmeta import _extras
from jaxmeta.hierarchy._affinity import checked_affinity

_TINY = np.finfo(float).tiny
_NOISE = (
    1e-12  # of the mean square of the labels: the least variance of the noise that log_me takes
)


def transferability_affinity(
    key, measure: Callable, outputs, y: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "C C"]:
    """A measure of every source's outputs against every concept's labels (`y == j`, one against the
    rest: ours).

    Args:
      key: Consumed by nothing; every affinity has one.
      measure: `(output of a source, labels [n]) -> scalar`: `leep`, `nce`, `h_score` or `log_me`.
      outputs: `[C, n, ...]`, what the model of each source says of all examples, held out from its
        training: probabilities `[C, n, 2]` for leep (`one_vs_rest`), labels `[C, n]` for nce, codes
        `[C, n, d]` for h_score and log_me.
      y: 0 to C-1.

    Returns:
      `[source, target]`.
    """
    outputs, y = np.asarray(outputs), np.asarray(y)
    if outputs.shape[:2] != (len(outputs), len(y)) or set(np.unique(y)) != set(range(len(outputs))):
        raise ValueError(
            "outputs must be [C, n, ...] for labels that hold each of 0 to C-1, got shape "
            f"{outputs.shape} for {len(y)} labels {np.unique(y).tolist()}; give one source a "
            "concept"
        )
    return checked_affinity(
        [
            [measure(output, (y == target).astype(int)) for target in range(len(outputs))]
            for output in outputs
        ]
    )


def one_vs_rest(
    scores: Float[np.ndarray, "n C"], least: float = 1e-3
) -> Float[np.ndarray, "C n 2"]:
    """Scores near the probability of each concept, as a source model a concept: `[1 - p, p]`, p
    clipped from 0 and 1 by least."""
    p = np.clip(np.asarray(scores, float).T, least, 1 - least)
    return np.stack([1 - p, p], -1)


def leep(probabilities: Float[np.ndarray, "n Z"], labels: Int[np.ndarray, " n"]) -> float:
    r"""Log expected empirical prediction, in nats.

    $$ \frac1n \sum_i \log \sum_z P(y_i | z)\, \theta(x_i)_z, \qquad
       P(y, z) = \frac1n \sum_{i: y_i = y} \theta(x_i)_z $$

    >>> round(leep([[1.0, 0.0], [0.5, 0.5]], [0, 1]), 4)  # P(0|z) = 2/3, 0: (log 2/3 + log 2/3) / 2
    -0.4055

    Paper: Nguyen et al., LEEP, ICML 2020.
    """
    theta, members = np.asarray(probabilities, float), _members(labels, probabilities)
    joint = members.T @ theta / len(theta)
    given = joint / np.maximum(joint.sum(0, keepdims=True), _TINY)
    return float(np.log((members @ given * theta).sum(1)).mean())


def nce(source_labels: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    r"""Negative conditional entropy of the labels given the source's, in nats:
    `-H(Y | Z) = sum P(y, z) log P(y | z)`.

    >>> round(nce([0, 0, 1, 1], [0, 1, 1, 1]), 4)  # half the examples in a bin of entropy log 2
    -0.3466

    Paper: Tran, Nguyen and Hassner, Transferability and hardness of supervised classification
    tasks, ICCV 2019.
    """
    joint = (
        _members(labels, source_labels).T
        @ _members(source_labels, labels)
        / len(np.asarray(labels))
    )
    given = joint / joint.sum(0, keepdims=True)
    return float((joint * np.log(np.where(joint > 0, given, 1))).sum())


def empirical(features):
    """The covariance over n, and the shrinkage 0."""
    centred = features - features.mean(0, keepdims=True)
    return centred.T @ centred / len(features), 0.0


def shrunk(features):
    """The covariance shrunk towards a multiple of the identity by Ledoit and Wolf's rule, and by
    how much."""
    with _extras.needed("shrinkage of covariances"):
        from sklearn.covariance import ledoit_wolf

    return ledoit_wolf(features)


def h_score(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], covariance: Callable = shrunk
) -> float:
    r"""How far class means lie apart, in units of the features' covariance:
    `(1 - s) tr(cov(f)^+ cov(E[f | y]))`.

    Args:
      features: Of the source model.
      labels: `[n]` integers.
      covariance: `features -> (covariance, shrinkage s)`: `shrunk`, or `empirical` (s = 0, the
        original).

    >>> round(h_score([[0.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1], empirical), 4)  # 4 / 5
    0.8

    Papers: Bao et al., An information-theoretic approach to transferability, ICIP 2019; Ibrahim et
    al., Newer is not always better, ECML 2022 (shrunk).
    """
    features, members = np.asarray(features, float), _members(labels, features)
    total, shrinkage = covariance(features)
    means = members @ (members.T @ features / members.sum(0)[:, None])
    return float(
        (1 - shrinkage) * np.trace(np.linalg.pinv(total, hermitian=True) @ empirical(means)[0])
    )


def log_me(features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"]) -> float:
    r"""The largest log evidence, an example, of Bayesian linear regression onto each class against
    the rest, averaged.

    $$ \frac1n \max_{\alpha, \beta} \log N(y;\ 0,\ \beta^{-1} I + \alpha^{-1} F F^T) $$

    The best beta of a ratio r = alpha / beta is known, $n / \beta = y^T (I + F F^T / r)^{-1} y$;
    the ratio is searched over all its range, for the evidence may have several maxima (ours: the
    paper's fixed point stops short of them, or at the first).

    Args:
      features: F, of the source model.
      labels: `[n]` integers.

    Returns:
      Nats an example. Where a class follows from the features exactly the evidence has no bound, so
      that the noise's variance is taken to be at least 1e-12 of the mean of y^2.

    >>> round(log_me([[-2.0], [-1.0], [2.0], [3.0]], [0, 0, 1, 1]), 4)
    -0.9679

    Paper: You et al., LogME: practical assessment of pre-trained models for transfer learning, ICML
    2021.
    """
    features, targets = np.asarray(features, float), _members(labels, features)
    n, dimensions = features.shape
    # The targets' parts along the left singular vectors, from whichever Gram matrix is smaller.
    s, vectors = np.linalg.eigh(features.T @ features if dimensions < n else features @ features.T)
    keep = s > 1e-12 * max(s[-1], _TINY)
    s, vectors = s[keep], vectors[:, keep]
    along = (
        (vectors.T @ features.T @ targets) ** 2 / s[:, None]
        if dimensions < n
        else (vectors.T @ targets) ** 2
    )
    return (
        float(np.mean([_best_evidence(s, part, y @ y, n) for part, y in zip(along.T, targets.T)]))
        / n
    )


def _best_evidence(s, along, size, n) -> float:
    """The largest log evidence of y; s the eigenvalues of F F', along the squares of y's parts
    along their vectors, size y'y."""
    from scipy.optimize import minimize_scalar

    outside = max(size - along.sum(), 0.0)

    def evidence(log_ratio):
        spread = s * np.exp(-log_ratio)[..., None]
        error = (along / (1 + spread)).sum(-1) + outside
        beta = n / np.maximum(error, _NOISE * size)
        return (n * np.log(beta / (2 * np.pi)) - np.log1p(spread).sum(-1) - beta * error) / 2

    if not s.size:
        return float(evidence(np.zeros(1))[0])
    # Made of steps about a unit wide at the logarithms of the eigenvalues, flat beyond: no maximum
    # hides between two points.
    grid = np.arange(np.log(s.min()) - 30, np.log(s.max()) + 30, 0.25)
    values = evidence(grid)
    peaks = np.flatnonzero((values[1:-1] >= values[:-2]) & (values[1:-1] >= values[2:])) + 1
    finer = [
        -minimize_scalar(
            lambda place: -evidence(np.array(place)),
            bounds=(grid[peak - 1], grid[peak + 1]),
            method="bounded",
            options={"xatol": 1e-8},
        ).fun
        for peak in peaks
    ]
    return float(max([values.max(), *finer]))


def _members(labels, beside) -> np.ndarray:
    """`[n, K]`, 0 or 1, over the K labels that occur."""
    labels = np.asarray(labels)
    if (
        labels.ndim != 1
        or not len(labels)
        or len(labels) != len(beside)
        or not np.issubdtype(labels.dtype, np.integer)
    ):
        raise ValueError(
            f"labels must be [n] integers, one a row of the {len(beside)} outputs, got shape "
            f"{labels.shape} and dtype {labels.dtype}"
        )
    if not np.isfinite(np.asarray(beside, float)).all():
        raise ValueError(
            "outputs of the source must be finite, got NaN or infinity; look at how the source "
            "was trained"
        )
    return (labels[:, None] == np.unique(labels)[None]).astype(float)
