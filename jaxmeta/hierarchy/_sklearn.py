"""The hierarchical classifier for scikit-learn. `C` classes, `n` examples, `d` features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import _extras
from jaxmeta.hierarchy._classifier import by_example, fit_nodes, layout, node_log_probabilities
from jaxmeta.hierarchy._decoding import path_product
from jaxmeta.hierarchy._derivation import embedding_tree
from jaxmeta.hierarchy._heads import ridge_head
from jaxmeta.hierarchy._tree import Tree

with _extras.needed("HierarchicalClassifier"):
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data


class HierarchicalClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that decides step by step down a tree of the classes, all its nodes trained in
    one program.

    Computes in the dtype of X, float32 or float64. Bring features to one scale first, as in
    `make_pipeline(StandardScaler(), HierarchicalClassifier())`.

    Args:
      tree: A `Tree` over the classes, nested tuples of them, or `(x [n, d], y [n]) -> Tree` with
        classes numbered from 0 in the order of `classes_`; default: `embedding_tree` of the class
        means.
      head: A node's model; default `ridge_head()`.
      decode: `(tree, log-probabilities) -> leaves`: `greedy`, `most_probable`, `beam(width)`;
        default: the class of the largest `predict_proba`.
      weighting: `by_example`, `by_class`, `by_child`; default `by_example`.
      random_state: Of heads that start at random: an int, a numpy RandomState or None.

    Attributes:
      classes_: `[C]`, sorted.
      tree_: The `Tree` over the classes.
      n_features_in_: d.
      params_: The nodes' parameters, numpy arrays.

    Raises:
      ValueError: on fitting, for one class, a tree over other classes than y's, naming them, models
        that diverge, and what scikit-learn refuses.

    Example:

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> model = HierarchicalClassifier(tree=(0, (1, 2))).fit(x, y)
    >>> model.score(x, y) > 0.95, model.predict_proba(x).shape
    (True, (150, 3))
    """

    def __init__(self, tree=None, head=None, decode=None, weighting=None, random_state=None):
        self.tree = tree
        self.head = head
        self.decode = decode
        self.weighting = weighting
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None):
        """Derives the tree where none is given, and trains every node; a weight of 2 is an example
        that occurs twice. A tree derived by a function of the user's does not see weights."""
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        weights = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        check_classification_targets(y)
        self.classes_, y = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "HierarchicalClassifier needs at least two classes, got one class, "
                f"{self.classes_[0]!r}; give examples of another"
            )
        weightless = np.flatnonzero(np.bincount(y, weights) == 0)
        if weightless.size:
            raise ValueError(
                "every class must have an example of weight above 0, got none of "
                f"{self.classes_.tolist()[weightless[0]]!r}; leave the class out, or weigh an "
                "example"
            )
        self.tree_ = self._derived(X, y, weights)
        leaves = self._leaves()
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        x, examples = _padded(X)
        with jax.enable_x64(True):
            params = fit_nodes(
                jax.random.key(seed),
                jnp.asarray(x),
                jnp.asarray(np.pad(leaves[y], (0, len(x) - examples))),
                jnp.asarray(np.pad(weights, (0, len(x) - examples))),
                layout(self.tree_),
                head=self._head(),
                weighting=self.weighting or by_example,
            )
        self.params_ = jax.tree.map(np.asarray, params)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(self.params_)):
            raise ValueError(
                "every node's model must be finite, got NaN or infinity after fitting; scale the "
                "features, or lower the head's rate"
            )
        return self

    def predict(self, X):
        """The class of every example."""
        log_probabilities, examples = self._log_probabilities(X)
        if self.decode is None:
            return self.classes_[self._of_leaves(log_probabilities, examples).argmax(axis=1)]
        with jax.enable_x64(True):
            found = np.asarray(self.decode(self.tree_, log_probabilities))[:examples]
        return self.classes_[np.argsort(self._leaves())[found]]

    def predict_proba(self, X):
        """`[n, C]`: products of the nodes' probabilities along paths, in the order of `classes_`;
        rows sum to 1."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X):
        """`[n, C]`: the logarithm of `predict_proba`."""
        return self._of_leaves(*self._log_probabilities(X))

    def _of_leaves(self, log_probabilities, examples):
        with jax.enable_x64(True):
            return np.asarray(path_product(self.tree_, log_probabilities))[
                :examples, self._leaves()
            ]

    def _log_probabilities(self, X):
        check_is_fitted(self)
        x, examples = _padded(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))
        with jax.enable_x64(True):
            found = node_log_probabilities(
                self.params_, jnp.asarray(x), layout(self.tree_).mask, head=self._head()
            )
        bad = np.isnan(found).any(axis=(1, 2))
        if bad.any():
            raise ValueError(
                "every node's probabilities must be numbers, got NaN for example "
                f"{int(np.argmax(bad))}; scale the features as those fitted"
            )
        return found, examples

    def _derived(self, x, y, weights) -> Tree:
        names = self.classes_.tolist()
        if self.tree is None:
            shares = (y[None] == np.arange(len(names))[:, None]) * weights[None]
            return embedding_tree(shares @ x / shares.sum(1, keepdims=True), concepts=names)
        if callable(self.tree):
            return self.tree(x, y).over(range(len(names))).renamed(names)
        return (self.tree if isinstance(self.tree, Tree) else Tree.from_nested(self.tree)).over(
            names
        )

    def _head(self):
        return ridge_head() if self.head is None else self.head

    def _leaves(self):
        """`[C]`, the leaf of each class."""
        return np.array([self.tree_.leaf(name) for name in self.classes_.tolist()])


def _padded(x):
    """Rows of zeros up to a power of two, and how many rows were there: folds of nearly one size
    share a program."""
    rows = max(64, 1 << (len(x) - 1).bit_length())
    return np.pad(x, ((0, rows - len(x)), (0, 0))), len(x)
