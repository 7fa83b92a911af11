"""Where concepts and tasks stand: trees of concepts, their space, how they are found and what they bring."""

from jaxmeta.hierarchy._tree import Tree

__all__ = ["Tree"]
