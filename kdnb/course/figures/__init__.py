"""Figures and drawings, each with a text alternative made from the same data."""
