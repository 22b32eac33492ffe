"""Take the README's picture out of an executed notebook: python report/reference/picture.py TASK"""

import base64
import sys
from pathlib import Path

import nbformat

NOTEBOOK, CELL = "00_what_is_distillation.ipynb", "explorer"

report = Path(__file__).parents[1]
executed = nbformat.read(report / sys.argv[1] / NOTEBOOK, as_version=4)
(cell,) = [cell for cell in executed.cells if cell.id == CELL]
(output,) = cell.outputs
target = report / "reference" / "softened.png"
target.write_bytes(base64.b64decode(output.data["image/png"]))
print(f"{target}: {output.metadata['image/png']['alt']}")
