"""The BUILD files say what the Python files are and import."""

import ast
import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

if "TEST_SRCDIR" in os.environ:
    pytest.skip("Bazel's tests do not see the BUILD files", allow_module_level=True)
ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(str(ROOT / "tools/update_build.py"))


def targets():
    """Label to kind and attributes of every target, read as Bazel would."""
    found = {}
    for path in [ROOT / "BUILD", *(p for d in TOOL["FOLDERS"] for p in (ROOT / d).rglob("BUILD"))]:
        folder = path.parent.relative_to(ROOT).as_posix()
        for node in ast.parse(path.read_text()).body:
            call = node.value
            if isinstance(call, ast.Call) and call.func.id.startswith("py_"):
                attributes = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
                found[f"//{folder}:{attributes.pop('name')}"] = (folder, call.func.id, attributes)
    return found


TARGETS = targets()


def owner(file):
    """The labels of the targets, tests aside, that a file is a source or data of."""
    return [
        label
        for label, (folder, kind, attributes) in TARGETS.items()
        for name in [*attributes.get("srcs", ()), *attributes.get("data", ())]
        if kind != "py_test" and f"{folder}/{name}" == file
    ]


def tracked():
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", *TOOL["FOLDERS"]],
        capture_output=True, text=True,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not in a git repository")
    return [name for name in listed.stdout.split() if not name.endswith(("/BUILD", ".sh"))]


def test_every_file_belongs_to_one_target():
    files = tracked()
    assert len(files) > 150
    wrong = {file: owner(file) for file in files if len(owner(file)) != 1}
    assert set(wrong) == {TOOL["RUNNER"]}


def test_dependencies_are_what_is_imported():
    """Found otherwise than by the tool: by the text of the lines that import."""
    for label, (folder, kind, attributes) in TARGETS.items():
        if kind == "py_test" or label == "//tests:tiny":
            continue
        (source,) = attributes["srcs"]
        text = (ROOT / folder / source).read_text()
        text = re.sub(r'"""(?:.|\n)*?"""', "", text)  # Scripts of tests as well.
        text = re.sub(r"if TYPE_CHECKING:\n(?:    .*\n|\n)+", "", text)
        imported = set()
        pattern = (
            r"^ *from (mtdnn_tf[\w.]*|benchmarking[\w.]*|tiny|test_\w+) import (\([^)]*\)|.+)$"
        )
        for module, names in re.findall(pattern, text, re.MULTILINE):
            for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)):
                top = {"mtdnn_tf": "", "benchmarking": "tools/"}.get(module.split(".")[0], "tests/")
                base = top + module.replace(".", "/")
                places = (f"{base}/{name}", f"{base}/{name}/__init__", base, f"{base}/__init__")
                imported.add(next(f"{p}.py" for p in places if (ROOT / f"{p}.py").is_file()))
        if re.search(r"^ *import mtdnn_tf$", text, re.MULTILINE):
            imported.add("mtdnn_tf/__init__.py")
        declared = set()
        for dependency in attributes.get("deps", ()):
            whole = f"//{folder}{dependency}" if dependency[0] == ":" else dependency
            of, _, other = TARGETS[whole]
            declared.add(f"{of}/{other['srcs'][0]}")
        assert declared == imported - {f"{folder}/{source}"}, label


def test_the_files_are_as_the_tool_writes_them():
    written = {path.relative_to(ROOT).as_posix() for path in TOOL["_present"]()}
    wanted = TOOL["build_files"](TOOL["Sources"]())
    assert written == set(wanted)
    for path, text in wanted.items():
        assert (ROOT / path).read_text() == text, f"run `python tools/update_build.py`: {path}"


def test_the_programs_are_binaries_and_every_file_of_tests_is_a_test():
    binaries = {label for label, (_, kind, _) in TARGETS.items() if kind == "py_binary"}
    names = ("train", "evaluate", "predict", "distill", "export")
    assert binaries >= {"//tools:glue_submit", *(f"//mtdnn_tf:{name}" for name in names)}
    tests = {label for label, (_, kind, _) in TARGETS.items() if kind == "py_test"}
    assert tests == {f"//tests:{path.stem}" for path in (ROOT / "tests").glob("test_*.py")}
