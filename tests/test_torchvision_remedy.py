"""torchvision is imported whether or not its compiled operators fit the installed torch."""

import subprocess
import sys
import textwrap

import pytest

# What the real package does, in small: describe the operator, which must exist by then.
DESCRIBE = """
@torch.library.register_fake("torchvision::nms")
def described(dets, scores, iou_threshold):
    return dets
"""
MATCHING = f"""
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
{DESCRIBE}
"""
MISMATCHED = f"""
import torch
from torchvision import part
{DESCRIBE}
"""
OTHER_FAULT = "raise RuntimeError('something else')"


def import_with(package_source, tmp_path, lines):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(package_source)
    (package / "part.py").write_text("")
    program = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from kdnb import torchvision_remedy as remedy
        """
    ) + textwrap.dedent(lines)
    return subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(("package", "declared"), [(MATCHING, False), (MISMATCHED, True)])
def test_declares_only_where_it_must(package, declared, tmp_path):
    done = import_with(
        package,
        tmp_path,
        f"""
        found = remedy.import_torchvision()
        assert found.__file__.startswith(sys.argv[1]), found.__file__
        assert remedy.operators_declared() is {declared}
        import torchvision
        assert remedy.import_torchvision() is torchvision is found
        """,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_other_faults_are_not_hidden(tmp_path):
    done = import_with(OTHER_FAULT, tmp_path, "remedy.import_torchvision()")
    assert done.returncode != 0 and "something else" in done.stderr


def test_the_installed_torchvision():
    from kdnb.torchvision_remedy import import_torchvision

    torchvision = import_torchvision()
    assert torchvision.models.mobilenet_v2(num_classes=2).classifier[-1].out_features == 2
