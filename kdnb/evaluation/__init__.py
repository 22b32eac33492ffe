"""What a model is worth and what it costs: scores, intervals, arithmetic, time, saliency."""
