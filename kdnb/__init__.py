"""Knowledge distillation for visual classification: the engine behind the course notebooks."""

__version__ = "0.1.0"
