"""Training and prediction: one loop for one model, and the same loss mapped over many models."""

from kdnb.training.config import TrainConfig
from kdnb.training.loop import TrainingDivergedError, fit
from kdnb.training.predict import evaluating, predict

__all__ = ["TrainConfig", "TrainingDivergedError", "evaluating", "fit", "predict"]
