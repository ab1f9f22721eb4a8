"""A file that the firewall reads is data. Nothing in it is run, and no library is loaded because a file names it."""

from __future__ import annotations

import ast
import os
import pickle
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from firewall import Firewall
from firewall.bundle import load_bundle, write_bundle
from firewall.bundle.trust import Trust
from firewall.errors import DataError, FirewallError
from firewall.lab.datasets.mnist import _read
from firewall.lab.training.loop import read_checkpoint
from tests.fused_bundle import fused_bundle

CHECKOUT = Path(__file__).parents[2]

#: Modules whose readers run what a file says.
_RUN = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "imp", "runpy"}
#: Calls that load a library or code by its name, whatever they are called on.
_LOAD = {
    *("CDLL", "PyDLL", "LoadLibrary", "dlopen", "load_library", "load_inline", "load_extension"),
    *("register_custom_ops_library", "deserialize_library", "exec_module"),
}
_BUILT_IN = {("", "eval"), ("", "exec")}  # `eval` of a PyTorch module is another word
#: Who may: the drivers of this machine, by the names that they have everywhere.
_ALLOWED = {("firewall/doctor/probes.py", "CDLL"), ("firewall/host/nvml.py", "CDLL")}


@cache
def modules() -> dict[str, list[ast.AST]]:
    """File -> all that stands in it, of every module of the package in which one of these words does."""
    words = re.compile(
        "|".join([*(rf"\b{word}\b" for word in (*_RUN, *_LOAD)), r"\b(?:eval|exec)\(", r"\.\w*load\w*\("])
    )
    texts = {
        str(path.relative_to(CHECKOUT)): path.read_text(encoding="utf-8")
        for root in ("firewall", "export", "runtime/python")
        for path in sorted((CHECKOUT / root).rglob("*.py"))
    }
    return {file: list(ast.walk(ast.parse(text))) for file, text in texts.items() if words.search(text)}


def calls() -> Iterator[tuple[str, ast.Call, str, str]]:
    """(file, call, what it is called on or "", name) of every call in the package."""
    for file, nodes in modules().items():
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield file, node, ast.unparse(node.func.value), node.func.attr
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield file, node, "", node.func.id


def test_no_reader_runs_what_a_file_says() -> None:
    """No module for pickles is imported; NumPy and PyTorch are told each time that they may not unpickle, YAML is read
    by a loader of plain values, and joblib reads no file. There are such calls, else this would hold nothing."""
    for file, nodes in modules().items():
        for node in nodes:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & _RUN, file
    seen = []
    for file, call, owner, name in calls():
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if name == "load" and owner in ("np", "numpy"):
            assert given.get("allow_pickle") == "False", (file, call.lineno)
        elif name == "load" and owner == "torch":
            assert given.get("weights_only") == "True", (file, call.lineno)
        elif name in ("load", "load_all", "unsafe_load", "full_load") and owner == "yaml":
            assert [ast.unparse(each) for each in call.args[1:]] == ["_Loader"], (file, call.lineno)
        else:
            assert (owner, name) != ("joblib", "load"), (file, call.lineno)
            continue
        seen.append(owner)
    assert {"np", "torch", "yaml"} <= set(seen)
    from firewall.config.settings_file import _Loader, yaml

    assert issubclass(_Loader, yaml.SafeLoader)


def test_no_library_is_loaded_by_name() -> None:
    """There are no plugins: nothing in the package loads code but its own extension, two drivers of the machine, and
    what is installed as Python packages."""
    found = {(file, name) for file, _, owner, name in calls() if name in _LOAD or (owner, name) in _BUILT_IN}
    assert found == _ALLOWED


class Hostile:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_pickled_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A checkpoint and an archive of arrays that would make a folder when they are unpickled: a one-line error, and
    there is no folder. Unpickled as usual they do make it."""
    made = tmp_path / "made"
    torch.save({"weights": Hostile(made)}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        read_checkpoint(tmp_path / "checkpoint.pt")
    pack = tmp_path / "mnist.npz"
    objects = np.empty(1, object)
    objects[0] = Hostile(made)
    np.savez(pack, x_train=objects, y_train=np.zeros(1, np.uint8))
    with pytest.raises(DataError, match=r"not a readable mnist\.npz"):
        _read(tmp_path, "train")
    assert not made.exists()
    pickle.loads(pickle.dumps(Hostile(made)))  # noqa: S301  (our own bytes)
    assert made.is_dir()


def test_a_network_that_needs_a_plugin_is_refused(tmp_path: Path) -> None:
    """An operator of somebody else's domain, in a bundle that is whole: one line, and no firewall."""
    plain = load_bundle(fused_bundle(), trust=Trust())
    name = plain.manifest.classifier.file
    model = onnx.load_model_from_string(plain.files[name])
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere.example", 1))
    model.graph.node[0].domain, model.graph.node[0].op_type = "elsewhere.example", "Plugin"
    fields = plain.manifest.model_dump(exclude={"files"})
    write_bundle(tmp_path / "b", {**plain.files, name: model.SerializeToString()}, **fields)
    with pytest.raises(FirewallError, match=r"elsewhere\.example") as caught:
        Firewall.load(tmp_path / "b", threads=1)
    assert "\n" not in str(caught.value)
