"""The reader's own images: a folder with a folder for each class, or a pair of tensors."""

from kdnb.data.custom.sources import ImageFolder, ImageTensors

__all__ = ["ImageFolder", "ImageTensors"]
