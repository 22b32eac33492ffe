"""Import torchvision even where its compiled operators do not fit the installed torch.

A CPU build of torch beside the registry's torchvision (or the reverse) cannot load the compiled
library. Then ``import torchvision`` fails, because it describes two operators on import. Models,
transforms and datasets need neither: declaring the two is enough.
"""

import importlib
import sys
from types import ModuleType

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# torch.library keeps a declaration only while its Library object lives.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Return the torchvision package; where the builds match, nothing is declared."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + SCHEMA)
    _declared.append(library)
    return importlib.import_module("torchvision")


def operators_declared() -> bool:
    """Whether this process had to declare the compiled operators itself."""
    return bool(_declared)
