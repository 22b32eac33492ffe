"""Diagrams of the ideas, and of results, as SVG."""
