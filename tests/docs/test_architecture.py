"""The architecture page agrees with the folders, their imports, and the contracts of import-linter."""

import ast
import re
import tomllib

import pytest

from testkit.documentation import ROOT

SOURCE = ROOT / "src" / "confcom"
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def rows(heading):
    """Rows of the table with this heading, keyed by their first cell."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return {line.split("|")[1].strip().strip("`"): line.split("|")[1:-1] for line in lines}


def folders(parent):
    return {one.name for one in parent.iterdir() if (one / "__init__.py").is_file()}


def imported(package):
    """Other packages that the modules of a package import, including imports for types and in functions."""
    found = set()
    for path in (SOURCE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{one.name}" for one in node.names if node.module == "confcom")]
            elif isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("confcom.")}
    return {one for one in found - {package} if (SOURCE / one).is_dir() or (SOURCE / f"{one}.py").is_file()}


def layers(contract):
    (found,) = (one["layers"] for one in CONTRACTS if one["id"] == contract)
    return [[name.strip().rpartition(".")[2] for name in layer.split("|")] for layer in found]


def permitted():
    """Packages that a package may import under import-linter's contracts, keyed by package."""
    order = layers("layers")
    below = {
        package: {name for lower in order[number + 1 :] for name in lower}
        for number, layer in enumerate(order)
        for package in layer
    }
    for contract in CONTRACTS:
        for source in contract.get("source_modules", ()):
            package = source.removeprefix("confcom.")
            if package in below:
                below[package] -= {one.removeprefix("confcom.") for one in contract["forbidden_modules"]}
    return below


def test_every_package_has_a_row_and_no_other():
    assert set(rows("package")) == folders(SOURCE)
    assert set(rows("package of `quote_helper`")) == folders(SOURCE / "quote_helper")


@pytest.mark.parametrize("package", ["addon", "controller", "device_plugin", "node_test", "tcb"])
def test_every_module_of_a_flat_package_has_a_row_above_what_it_imports(package):
    modules = {path.stem: path.read_text() for path in (SOURCE / package).glob("*.py") if path.stem[:2] != "__"}
    order = [name.partition("`")[0] for name in rows(f"module of `{package}`")]
    assert set(order) == set(modules)
    for place, module in enumerate(order):
        named = set(re.findall(rf"from confcom\.{package}\.(\w+) import", modules[module]))
        assert named <= {*order[place + 1 :]}, module


def test_the_picture_has_every_package_and_its_arrows_are_imports():
    images = ROOT / "docs/images"
    graph, picture = ((images / name).read_text() for name in ("architecture.dot", "architecture.svg"))
    assert set(re.findall(r"^ +(\w+) \[label=", graph, re.MULTILINE)) == folders(SOURCE)
    drawn = set(re.findall(r"<title>(\w+)</title>", picture)) - {"confcom"}
    assert {name for name in drawn if not name.startswith("cluster_")} == folders(SOURCE)
    arrows = re.findall(r"^ +(\w+) -> (?:\{([\w ]+)\}|(\w+))$", graph, re.MULTILINE)
    ends = {(start, end) for start, several, single in arrows for end in (several or single).split()}
    assert ends == set(re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", picture))
    assert not [arrow for arrow in ends if arrow[1] not in imported(arrow[0])]


def test_each_row_names_what_the_package_imports():
    allowed = permitted()
    for package, cells in rows("package").items():
        named = re.findall(r"`([a-z_]+)`", cells[-1])
        assert named == sorted(imported(package)), package
        assert set(named) <= allowed[package], package


def test_every_module_that_a_flow_names_is_there():
    flows = PAGE.partition("## A quote, hop by hop")[2].partition("## Words that are ours")[0]
    named = {name for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", flows) if name.partition(".")[0] != "kubernetes"}
    assert len(named) > 20
    missing = [name for name in named if not (SOURCE / f"{name.replace('.', '/')}.py").is_file()]
    assert missing == []


WALKS = {
    "`confcom enable`": ("cli.commands.enable", 12),
    "`confcom status`": ("cli.commands.status", 12),
    "A relayed quote": ("quote_helper.transport.handler", 12),
    "EPC by capacity": ("device_plugin.main", 14),
}


@pytest.mark.parametrize("heading", WALKS)
def test_a_way_through_the_code_is_walked_in_few_files(heading):
    walk = PAGE.partition(f"## {heading}, file by file")[2].partition("\n## ")[0]
    files = re.findall(r"^[0-9]+\. `([a-z_.]+)`", walk, re.MULTILINE)
    first, most = WALKS[heading]
    assert files[0] == first
    assert len(set(files)) == len(files) <= most
    if first.startswith("quote_helper."):
        return  # here `main` gives the relay as an argument
    entered = [SOURCE / f"{name.replace('.', '/')}.py" for name in files]
    imports = "".join(path.read_text() for path in entered)
    for path, name in zip(entered[1:], files[1:], strict=True):
        package, _, module = name.rpartition(".")
        if module == "main":
            continue  # starts as another process
        named = rf"from confcom\.{package} import [^\n]*\b{module}\b|from confcom\.{re.escape(name)} import"
        assert re.search(named, imports), f"no file of the walk imports {path.name}"
