"""Pictures of data, of estimators and of runs: of a run its training, its learning within an
episode and an episode, from its files."""

from jaxmeta.report._comparison import draw_comparison
from jaxmeta.report._curves import draw_steps, draw_training
from jaxmeta.report._data import show_data
from jaxmeta.report._episode import Episode, draw_episode
from jaxmeta.report._hierarchy import draw_affinity, draw_tree
from jaxmeta.report._page import report, write
from jaxmeta.report._tying import draw_sharing

__all__ = [
    "Episode",
    "draw_affinity",
    "draw_comparison",
    "draw_episode",
    "draw_sharing",
    "draw_steps",
    "draw_training",
    "draw_tree",
    "report",
    "show_data",
    "write",
]
