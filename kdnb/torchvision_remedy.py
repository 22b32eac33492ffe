"""Import torchvision even where its compiled operators do not fit the installed torch.

A CPU build of torch beside the registry's torchvision (or the reverse) cannot load torchvision's
compiled library, and then ``import torchvision`` itself fails, because it describes the operator
``torchvision::nms`` before anybody asks for it. Models, transforms and datasets are plain Python
and need no compiled operator: declaring what the missing operators look like is enough.
"""

import importlib
import sys
from types import ModuleType

import torch

MISSING_OPERATOR = "operator torchvision::nms does not exist"
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# torch.library keeps a declaration only while its Library object lives.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Return the torchvision package; where the builds match, nothing is declared.

    Raises whatever ``import torchvision`` raises for any other reason.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if MISSING_OPERATOR not in str(error):
            raise
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
    _declared.append(library)
    return importlib.import_module("torchvision")


def operators_declared() -> bool:
    """Whether this process had to declare the compiled operators itself."""
    return bool(_declared)
