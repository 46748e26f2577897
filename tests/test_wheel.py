"""What `pip install` of the package gives: every command, outside the repository."""

import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # absl's --help ends with 1.
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The commands of the built wheel, in an environment that has its dependencies and not itself."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # A build writes beside the code.
    shutil.copytree(ROOT / "mtdnn_tf", source / "mtdnn_tf")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    flags = ("--no-deps", "--no-build-isolation", f"--wheel-dir={folder}")
    run(*pip, "wheel", *flags, source)
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    (wheel,) = folder.glob("*.whl")
    run(*pip, "--python", python, "install", "--no-deps", wheel)
    # A path in a .pth file does not bring that folder's own .pth files, so no editable install.
    (packages,) = folder.glob("env/lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return python.parent


def test_the_package_is_the_installed_one(installed, tmp_path):
    script = "import mtdnn_tf; print(mtdnn_tf.__file__)"
    file = run(installed / "python", "-c", script, cwd=tmp_path)
    assert Path(file).is_relative_to(installed.parent)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_its_flags(command, installed, tmp_path):
    shown = run(installed / command, "--help", cwd=tmp_path)
    assert "--help" in shown
    assert "traceback" in shown


def test_files_beside_the_code_are_there(installed):
    """Pages, suites of tasks and the demo's experiment."""
    (package,) = installed.parent.glob("lib/python*/site-packages/mtdnn_tf")
    names = {path.relative_to(ROOT / "mtdnn_tf") for path in (ROOT / "mtdnn_tf").rglob("*.*")}
    wanted = {name for name in names if name.suffix != ".pyc"}
    assert len(wanted) > 150
    assert wanted <= {path.relative_to(package) for path in package.rglob("*.*")}
