"""Evaluation of models: scores, intervals, arithmetic, time, saliency."""
