"""Pictures of data, of estimators and of runs: of a run its training, its learning within an
episode and an episode, from its files."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.report._comparison import draw_comparison as draw_comparison
    from jaxmeta.report._curves import draw_steps as draw_steps, draw_training as draw_training
    from jaxmeta.report._data import show_data as show_data
    from jaxmeta.report._episode import Episode as Episode, draw_episode as draw_episode
    from jaxmeta.report._hierarchy import draw_affinity as draw_affinity, draw_tree as draw_tree
    from jaxmeta.report._page import report as report, write as write
    from jaxmeta.report._tying import draw_sharing as draw_sharing
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
