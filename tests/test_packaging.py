"""What is declared is what is imported, what is locked is installed, and a wheel is whole."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path, PurePosixPath

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import kdnb

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CPU = "--extra-index-url https://download.pytorch.org/whl/cpu"
INSTALL = "--constraint requirements.lock --editable"
# Declared, and imported by no line of kdnb, notebooks, tests or report/reference.
NOT_IMPORTED = {
    "torchvision": "kdnb.torchvision_remedy imports it by name",
    "bokeh": "draws Dask's dashboard, whose address a sweep prints",
    "ipykernel": "runs the notebooks",
    "jupyterlab": "opens the notebooks",
    "ruff": "a command of `make lint`",
    "hatchling": "builds the wheel, also in this file",
    "check-jsonschema": "a command that this file calls",
}


IN_COLAB = "google"  # imported only where Colab has put it


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def names(declared: list[str]) -> set[str]:
    return {canonicalize_name(each.name) for each in map(Requirement, declared)} - {"kdnb"}


def imported(folder: str, pattern: str = "*.py") -> set[str]:
    """The distributions whose modules the files of a folder import, at their top or inside."""
    found = set()
    for path in (ROOT / folder).rglob(pattern):
        found |= {top for source in sources(path) for top in top_modules(source)}
    here = {path.stem for home in ("tests", "report") for path in (ROOT / home).rglob("*.py")}
    outside = found - sys.stdlib_module_names - here - {"kdnb", "only_here", "their_net", IN_COLAB}
    homes = packages_distributions()
    unknown = {top for top in outside if top not in homes}
    assert not unknown, f"imported in {folder} and not installed: {unknown}"
    return {canonicalize_name(homes[top][0]) for top in outside}


def sources(path: Path) -> list[str]:
    if path.suffix == ".py":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return [re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE) for source in code]


def top_modules(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    needed = imported("kdnb") | imported("notebooks", "*.ipynb")
    declared = names(PROJECT["dependencies"])
    assert needed - declared == set()
    assert declared - needed <= NOT_IMPORTED.keys()
    more = imported("tests") | imported("report")
    all_declared = declared | {name for extra in EXTRAS.values() for name in names(extra)}
    assert more - all_declared == set()
    assert all_declared - needed - more == NOT_IMPORTED.keys()


@cache
def lock() -> dict[str, Requirement]:
    """What requirements.lock says for this machine and Python, by name."""
    lines = [line for line in text("requirements.lock").splitlines() if not line.startswith("#")]
    pins = list(map(Requirement, lines))
    for pin in pins:
        assert [each.operator for each in pin.specifier] == ["=="], str(pin)
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    assert len({pin.name for pin in here}) == len(here)
    return {canonicalize_name(pin.name): pin for pin in here}


def locked(name: str) -> str:
    (pin,) = lock()[name].specifier
    return pin.version


def test_the_lock_satisfies_the_ranges_of_all_direct_dependencies():
    declared = [*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values())]
    for need in map(Requirement, declared):
        if need.name == "kdnb":  # an extra that another one includes
            continue
        operators = {each.operator for each in need.specifier}
        assert ">=" in operators and operators <= {">=", "<"}, str(need)
        assert need.specifier.contains(locked(canonicalize_name(need.name))), str(need)
    assert "://" not in text("requirements.lock")


def test_the_installed_versions_are_those_of_the_lock():
    for name, pin in lock().items():
        try:
            found = version(name)
        except PackageNotFoundError:  # of CUDA beside the CPU build, or another system's
            assert name not in names(PROJECT["dependencies"]), name
            continue
        assert pin.specifier.contains(found), f"{name}: found {found}, locked {pin.specifier}"


@pytest.mark.parametrize(("word", "index"), [((), ""), (("TORCH=cpu",), f"{CPU} ")])
def test_make_installs_the_lock_and_one_word_picks_the_cpu_build(word, index):
    # -W: as if pyproject.toml had changed, so that make says how it would install
    command = ["make", "-n", "-W", "pyproject.toml", *word, "report"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        # On Windows a reader has no make, and `.ci/run` itself needs it.
        pytest.skip("make is not installed here; README.md has the commands without it")
    (line,) = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert " ".join(line.split()) == f".venv/bin/pip install --quiet {index}{INSTALL} '.[test]'"


def test_make_refuses_another_build_of_torch():
    if sys.platform == "win32":
        pytest.skip("make is not part of Windows")
    done = subprocess.run(
        ["make", "-n", "TORCH=gpu"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode and "TORCH can be cpu or left out, got gpu" in done.stderr


def test_pip_takes_the_cpu_build_for_the_locked_one_and_before_it():
    torch, cpu = lock()["torch"], f"{locked('torch')}+cpu"
    assert torch.specifier.contains(cpu) and Version(cpu) > Version(locked("torch"))


def test_the_readme_installs_the_lock_on_every_system():
    for pip in (".venv/bin/pip", ".venv\\Scripts\\pip"):
        assert f"    {pip} install {INSTALL} '.[test]'\n" in text("README.md")
    assert CPU in text("README.md") and "make TORCH=cpu report" in text("README.md")


def test_conda_and_binder_install_the_lock():
    environment = yaml.safe_load(text("environment.yml"))
    (pip,) = [each["pip"] for each in environment["dependencies"] if isinstance(each, dict)]
    assert pip == [CPU, "--constraint requirements.lock", "--editable .[test]"]
    (python,) = [each for each in environment["dependencies"] if str(each).startswith("python=")]
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(python[7:] + ".0")


def test_the_citation_names_this_version():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"] == kdnb.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == [{"name": "the kdnb authors"}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("github-workflows", ".github/workflows/test.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_files_for_others_follow_their_schemas(schema, file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, str(ROOT / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_the_readmes_commands_with_every_python():
    workflow = yaml.safe_load(text(".github/workflows/test.yml"))
    install = " ".join(workflow["env"]["INSTALL"].split())
    assert install == f"python -m pip install {CPU} {INSTALL} .[test]"
    jobs = workflow["jobs"]
    run = {name: [step.get("run") for step in job["steps"]] for name, job in jobs.items()}
    for command in ("-m kdnb report --task mnist-small polyps", "-m pytest -n logical"):
        assert f"python {command}" in run["two-commands"]
        assert f"    .venv/bin/python {command}\n" in text("README.md")
    matrix = jobs["fast"]["strategy"]["matrix"]
    allowed = Requirement(f"x{PROJECT['requires-python']}").specifier
    assert matrix["python"] == [f"3.{n}" for n in range(9, 20) if allowed.contains(f"3.{n}.0")]
    for name in ("fast", "two-commands"):
        systems = jobs[name]["strategy"]["matrix"]["os"]
        assert [each.split("-")[0] for each in systems] == ["ubuntu", "macos", "windows"]
        assert "$INSTALL" in run[name]


def test_the_development_container_uses_what_make_installs():
    container = json.loads(text(".devcontainer/devcontainer.json"))
    assert container["postCreateCommand"].startswith("make TORCH=cpu .venv/installed && ")
    python = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert python == "${workspaceFolder}/.venv/bin/python"
    assert Requirement(f"x{PROJECT['requires-python']}").specifier.contains(
        container["image"].split(":")[1] + ".0"
    )


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_course_and_nothing_beside_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        notes = [name for name in archive.namelist() if "/licenses/" in name]
    hidden = ("__pycache__", ".ipynb_checkpoints")
    package = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "kdnb").rglob("*")
        if path.is_file() and not path.parent.name.startswith(hidden)
    }  # fmt: skip
    kept = [f"report/reference/{path.name}" for path in ROOT.glob("report/reference/*.json")]
    books = [f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")]
    # All but the glossary, which the page shows.
    documents = {name for name in package if name.endswith(".md")} - {"kdnb/course/glossary.md"}
    assert len(books) >= 9 and len(kept) >= 5 and documents
    assert {f"kdnb/{name}" for name in [*books, *kept]} <= held
    assert package - documents <= held
    assert held <= package - documents | {f"kdnb/{name}" for name in [*books, *kept]}
    whose = [
        PurePosixPath(name).relative_to(f"{wheel.name.rpartition('-py3')[0]}.dist-info/licenses")
        for name in notes
    ]
    assert sorted(map(str, whose)) == sorted(PROJECT["license-files"])


@pytest.fixture
def installed(wheel, tmp_path):
    """Python's folder of commands in a new environment with the wheel; its packages' folder.

    The wheel's dependencies are those of this environment, whose folder is added: installing them
    again would take a network, minutes and gigabytes, and `pip` has done it for this one.
    """
    venv.create(tmp_path / "new", with_pip=True)
    commands = tmp_path / "new" / ("Scripts" if sys.platform == "win32" else "bin")
    python = commands / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    ours = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{ours}\n", encoding="utf-8")
    return commands, packages


@pytest.mark.slow
def test_an_installed_wheel_makes_its_page_where_the_command_is_started(installed, tmp_path):
    commands, packages = installed
    empty = tmp_path / "empty folder"
    empty.mkdir()
    ours = ("KDNB_", "PYTHONPATH")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "PYTHONDONTWRITEBYTECODE": "1",  # whatever appears among the packages counts
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),  # nbconvert's templates
        "MPLBACKEND": "module://what_only_another_program_has",
    }

    def run(*command):
        return subprocess.run(
            [str(commands / command[0]), *command[1:]],
            cwd=empty, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    seen = run("python", "-c", "import kdnb; print(kdnb.__file__)")
    assert Path(seen.stdout.strip()) == packages / "kdnb" / "__init__.py", seen.stderr
    before = sorted(packages.rglob("*"))
    done = run("kdnb", "report", "--only", "00")
    assert done.returncode == 0, done.stderr[-3000:]
    page = (empty / "report" / "mnist-small-00.html").read_text(encoding="utf-8")
    assert "<title>Knowledge distillation" in page
    record = json.loads((empty / "report" / "mnist-small-00.json").read_text(encoding="utf-8"))
    assert record["cell_seconds"] and record["provenance"]["kdnb"] == PROJECT["version"]
    assert list((empty / "data" / "runs").glob("run-*"))
    done = run("kdnb", "edition", "student")
    assert done.returncode == 0, done.stderr[-3000:]
    written = sorted(path.name for path in (empty / "editions" / "student").glob("*.ipynb"))
    assert written == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert {path.name for path in empty.iterdir()} == {"data", "editions", "report"}
    assert sorted(packages.rglob("*")) == before
