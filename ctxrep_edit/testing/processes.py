"""What can only be seen from outside: what an import brings along."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers")
_CODE = """\
import importlib, sys
module = importlib.import_module({module!r})
for name in {hooks!r}:
    hook = getattr(module, name, None)
    if hook is not None:
        list(hook())
print(" ".join(name for name in {heavy!r} if name in sys.modules))
"""


@functools.cache  # several adapters may share a module
def imports_no_torch(module: str, hooks: tuple[str, ...] = ()) -> None:
    """Fails where importing `module`, or then calling its registering `hooks`, imports torch. In a process of its own.

    Raises pytest's Failed.
    """
    code = _CODE.format(module=module, hooks=hooks, heavy=HEAVY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        pytest.fail(f"{module} cannot be imported in a process of its own: {last}")
    if done.stdout.strip():
        pytest.fail(
            f"Importing {module} imports {done.stdout.strip().replace(' ', ', ')}: every start of the command line "
            "would. Import them inside methods, or under TYPE_CHECKING."
        )
