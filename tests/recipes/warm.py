"""A `firewall` command whose packages are imported once: each start is a fork of a process that has them.

The recipe starts some twenty commands, and half of the time of tiny ones is the import of torch. Here `firewall` is a
few lines that hand their arguments, folder, environment and streams to that process and end with the exit code of its
fork. That real processes do the same, and end when they are killed, is held by the first run of
`test_the_whole_graph_on_tiny_data` and by all tests of commands.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["environment"]

#: `-S`: no site, since it needs nothing of what is installed.
_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.connect({door!r})
    call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(door, [len(call).to_bytes(4, "big")], [0, 1, 2])
    door.sendall(call)
    answer = door.recv(1)
sys.exit(answer[0] if answer else "firewall: the process of tests/recipes/warm.py that would run this has ended")
"""


@contextmanager
def environment(folder: Path) -> Iterator[str]:
    """This virtual environment again, with such a `firewall` in it.

    Args:
        folder: A new folder; it holds links to the environment's packages and programs.

    Yields:
        The path of its Python. Outside a virtual environment that of this one, with the real command.
    """
    if sys.prefix == sys.base_prefix:
        yield sys.executable
        return
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    shutil.copyfile(Path(sys.prefix) / "pyvenv.cfg", folder / "pyvenv.cfg")
    for name in ("python", "dvc"):
        (programs / name).symlink_to(Path(sys.executable).parent / name)
    door = folder / "door"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(door))
        listening.listen()
        # One thread: a fork of a process with more may hang.
        one = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, str(listening.fileno())]
        process = subprocess.Popen(command, pass_fds=(listening.fileno(),), env=one)
    (programs / "firewall").write_text(_CLIENT.format(python=sys.executable, door=str(door)))
    (programs / "firewall").chmod(0o755)
    try:
        yield str(programs / "python")
    finally:
        process.kill()
        process.wait()


def _serve(listening: socket.socket) -> None:
    """Do the calls, one after the other."""
    _warm_up()
    while True:
        connection, _ = listening.accept()
        with connection:
            child = os.fork()
            if child == 0:
                os._exit(_call(connection))
            _, status = os.waitpid(child, 0)
            with suppress(OSError):
                connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))


def _warm_up() -> None:
    """Import what the recipe's commands do, and export a network, for which torch imports much more."""
    import tempfile

    import torch
    from torch import nn
    from tqdm import tqdm

    import firewall.lab.cli
    import firewall.lab.evaluation.over_time  # noqa: F401
    from firewall.export.onnx import export_classifier

    tqdm.monitor_interval = 0  # else the export's bar of progress leaves a thread behind
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    torch.optim.AdamW(network.parameters())
    with tempfile.TemporaryDirectory() as folder:
        export_classifier(network, Path(folder) / "net.onnx", size=8, labels=("a", "b", "c"))


def _call(connection: socket.socket) -> int:
    """In the fork: become the command that was called; its exit code."""
    atexit._clear()  # what the process that was forked has to tidy is its own
    try:
        size, streams, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as reader:
            arguments, folder, variables = json.loads(reader.read(int.from_bytes(size, "big")))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.update(variables)
        sys.argv = arguments
        from firewall.cli import main

        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _serve(given)
