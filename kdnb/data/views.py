"""A finite set of views of each image, so that a teacher can answer for every one of them once.

Random augmentation shows the student an image that the teacher has never seen, and the teacher
must run again for every batch of every epoch. Shifts by whole pixels are a finite set: the
teacher's logits for (image, view) are computed once and looked up ever after.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_offsets(shift: int) -> list[tuple[int, int]]:
    """The views of an image moved by up to ``shift`` pixels: (down, right), the unmoved one first.

    >>> shift_offsets(0), len(shift_offsets(2))
    ([(0, 0)], 25)
    """
    if shift < 0 or shift != int(shift):
        raise ValueError(f"shift must be a whole number of pixels, 0 or more, got {shift}")
    steps = range(-shift, shift + 1)
    return sorted(((y, x) for y in steps for x in steps), key=lambda o: (o != (0, 0), o))


class ShiftedImages:
    """Every shift of every image, without a copy of any: windows into images with a black margin.

    ``images``: (N, C, H, W) uint8. Views are numbered as in `shift_offsets`.
    """

    def __init__(self, images: Tensor, shift: int = 0):
        self.offsets = shift_offsets(shift)
        height, width = images.shape[2:]
        margin = F.pad(images, (shift, shift, shift, shift))
        # (N, C, 2·shift+1, 2·shift+1, H, W), a view of `margin`
        self._windows = margin.unfold(2, height, 1).unfold(3, width, 1)
        # Content moves down and right when its window moves up and left.
        corners = torch.tensor([(shift - y, shift - x) for y, x in self.offsets])
        self._rows, self._columns = corners.to(images.device).unbind(1)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def views(self) -> int:
        """How many views each image has."""
        return len(self.offsets)

    def batch(self, index: Tensor, view: Tensor) -> Tensor:
        """Image ``index[b]`` in view ``view[b]`` for each b: (B, C, H, W) float32 in [0, 1]."""
        pixels = self._windows[index, :, self._rows[view], self._columns[view]]
        return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)


def warped(images: Tensor, strength: float) -> Tensor:
    """Each of the (B, C, H, W) float images turned, sheared and stretched by chance.

    The linear map about an image's centre is the identity plus four numbers from the uniform
    distribution on ±``strength``: 0.2 turns by about 10° and stretches by 20 %. These views are not
    a finite set, so no teacher can answer for them beforehand.
    """
    chance = torch.rand(len(images), 2, 2, device=images.device) * 2 - 1
    linear = torch.eye(2, device=images.device) + strength * chance
    maps = F.pad(linear, (0, 1))  # no translation
    grid = F.affine_grid(maps, images.shape, align_corners=False)
    seen = F.grid_sample(images.contiguous(), grid, align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)
