"""Writes the BUILD files from what the Python files import: one target a file.

    python tools/update_build.py          # after a file or an import was added
    python tools/update_build.py --check  # exits with 1 where a BUILD file is not true

A file is a `py_library`; one that is run and that no other file imports is a `py_binary`. A file of
tests is a library as well, and has a `py_test` that runs pytest on it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from absl import flags

from mtdnn_tf import cli
from mtdnn_tf.errors import UserError
from mtdnn_tf.files import write_atomically

ROOT = Path(__file__).parents[1]
FOLDERS = ("mtdnn_tf", "tests", "tools")
HEADER = "# Written by `python tools/update_build.py`; tests/test_build.py keeps it true.\n"
VISIBLE = 'package(default_visibility = ["//visibility:public"])\n'


def _files_of(folder: str) -> list[str]:
    """The files of a folder of tests/data, from tests/ on."""
    tests = ROOT / "tests"
    paths = (tests / "data" / folder).rglob("*")
    return sorted(path.relative_to(tests).as_posix() for path in paths if path.is_file())


# A file to the files that it reads, which lie in its folder or below.
READS = {
    "mtdnn_tf/__init__.py": ["py.typed"],
    "mtdnn_tf/demo_data/benchmark.py": ["experiment.yaml"],
    "mtdnn_tf/reporting/page.py": ["page.html.j2"],
    "mtdnn_tf/serving/rest_api.py": ["page.html"],
    "mtdnn_tf/tasks/registry.py": ["suites/glue.yaml", "suites/nli.yaml", "suites/superglue.yaml"],
    "tests/test_configs.py": ["//:others"],
    "tests/test_old_run.py": _files_of("old_run"),
    "tests/test_saved_config.py": _files_of("old_names"),
}
RUNNER = "tests/run_pytest.py"  # The main file of every test.
RUNS_BINARIES = "tests/tiny.py"  # Runs them by their names; what tests may need is what there is.
OTHERS = """filegroup(
    name = "others",
    srcs = ["README.md", "pyproject.toml"] + glob(["configs/**", "docs/**"]),
)
"""


def _define_flags() -> None:
    flags.DEFINE_bool("check", False, "Write nothing; exit with 1 where a file would change.")


def _main(values: flags.FlagValues, arguments: list[str]) -> int | None:
    cli.no_arguments(arguments)
    found = {path: path.read_text("utf-8") for path in _present()}
    wanted = {ROOT / path: text for path, text in build_files(Sources()).items()}
    changed = sorted(path for path in {**found, **wanted} if found.get(path) != wanted.get(path))
    if values.check and changed:
        names = ", ".join(path.relative_to(ROOT).as_posix() for path in changed)
        raise UserError(f"not true any more: {names}; run `python tools/update_build.py`")
    for path in changed:
        if path in wanted:
            write_atomically(path, wanted[path])
        else:
            path.unlink()
        print(f"{'wrote' if path in wanted else 'removed'} {path.relative_to(ROOT)}")
    return 0


def _present() -> Iterator[Path]:
    """The BUILD files that are there."""
    yield from ROOT.glob("BUILD")
    for folder in FOLDERS:
        yield from (ROOT / folder).rglob("BUILD")


class Sources:
    """The Python files of the project.

    Attributes:
        imports: File to the files that it imports, but for those of type annotations alone.
        binaries: The files that are run and that no other file imports.
    """

    def __init__(self) -> None:
        paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
        trees = {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text("utf-8")) for p in paths}
        modules = {_module(file): file for file in trees}
        self.imports = {
            file: sorted({modules[name] for name in _names(tree, modules)} - {file})
            for file, tree in trees.items()
        }
        imported = {other for others in self.imports.values() for other in others}
        run = [file for file, tree in trees.items() if _is_run(tree) and file != RUNNER]
        self.binaries = [file for file in run if file not in imported]


def _module(file: str) -> str:
    """What a file is imported as; the folders of tests and tools are on the path."""
    parts = PurePosixPath(file).with_suffix("").parts
    parts = parts[1:] if parts[0] in ("tests", "tools") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _names(tree: ast.Module, known: dict[str, str]) -> Iterator[str]:
    """The known modules that a file imports, anywhere in it."""
    for node in _nodes(tree):
        names: Sequence[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in members]
        yield from (name for name in names if name in known)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one, less those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _nodes(child)


def _is_run(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in tree.body
    )


def build_files(sources: Sources) -> dict[str, str]:
    """What the BUILD files should hold, by their paths."""
    rules: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for file, imports in sources.imports.items():
        if file == RUNNER:
            continue
        path = PurePosixPath(file)
        depends, data = [*imports], [*READS.get(file, ())]
        if file == RUNS_BINARIES:
            depends += sources.binaries
            data.append("//:others")
        kind = "py_binary" if file in sources.binaries else "py_library"
        labels = sorted({_label(other, path.parent.as_posix()) for other in depends})
        lists = {"srcs": [path.name], "data": data, "deps": labels}
        rules[path.parent.as_posix()].append((kind, _rule(kind, _name(file), lists)))
        if path.name.startswith("test_"):
            rules[path.parent.as_posix()].append(("py_test", _test(path)))
    files = {"BUILD": f"{HEADER}{VISIBLE}\n{OTHERS}"}
    for folder, of_folder in rules.items():
        kinds = ", ".join(f'"{kind}"' for kind in sorted({kind for kind, _ in of_folder}))
        load = f'load("@rules_python//python:defs.bzl", {kinds})\n'
        texts = [text for _, text in of_folder]
        files[f"{folder}/BUILD"] = "\n".join([HEADER + load, VISIBLE, *texts])
    return files


def _name(file: str) -> str:
    """Name of the target of a file."""
    path = PurePosixPath(file)
    return f"{path.stem}_py" if path.name.startswith("test_") else path.stem


def _label(file: str, folder: str) -> str:
    """What a target in `folder` calls the target of a file."""
    own = PurePosixPath(file).parent.as_posix()
    return f":{_name(file)}" if own == folder else f"//{own}:{_name(file)}"


def _rule(kind: str, name: str, lists: dict[str, list[str]]) -> str:
    lines = [f"{kind}(", f'    name = "{name}",']
    for attribute, values in lists.items():
        if len(values) == 1:
            lines.append(f'    {attribute} = ["{values[0]}"],')
        elif values:
            lines += [f"    {attribute} = [", *(f'        "{v}",' for v in values), "    ],"]
    return "\n".join([*lines, ")", ""])


def _test(path: PurePosixPath) -> str:
    """Runs pytest on a file of tests; one that takes long has to be asked for."""
    lines = [
        "py_test(",
        f'    name = "{path.stem}",',
        '    timeout = "eternal",',
        f'    srcs = ["{PurePosixPath(RUNNER).name}"],',
        f'    args = ["{path}"],',
        f'    main = "{PurePosixPath(RUNNER).name}",',
        f'    deps = [":{path.stem}_py", ":conftest"],',
        ")",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(_main, _define_flags, __doc__ or "")
