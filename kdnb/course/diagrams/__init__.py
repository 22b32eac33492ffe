"""Diagrams of the ideas, and of results, as SVG."""

from kdnb.course.diagrams.head import subclass_head
from kdnb.course.diagrams.layers import networks
from kdnb.course.diagrams.pipeline import idea
from kdnb.course.diagrams.triangle import simplex, three_classes

__all__ = ["idea", "networks", "simplex", "subclass_head", "three_classes"]
