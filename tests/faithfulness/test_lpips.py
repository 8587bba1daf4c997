"""LPIPS against the numbers of its authors, and over regions and batches. Needs the weights in the cache."""

import warnings
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from PIL import Image

from ctxrep_edit.errors import InputError
from ctxrep_edit.faithfulness import lpips as ours
from ctxrep_edit.faithfulness.lpips import (
    MIN_LPIPS_SIDE,
    lpips_distance,
    lpips_map,
)
from ctxrep_edit.faithfulness.lpips import alexnet_features as features
from ctxrep_edit.faithfulness.lpips import lpips_maps as distances
from ctxrep_edit.faithfulness.lpips_weights import load_alexnet_features
from ctxrep_edit.imaging import read_image, to_tensor

FOLDER = Path(__file__).parents[1] / "data" / "lpips"
REF, P0, P1 = (FOLDER / f"ex_{name}.png" for name in ("ref", "p0", "p1"))
SMALL = MIN_LPIPS_SIDE


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.cat([to_tensor(read_image(path)) for path in (REF, P0, P1)])


@pytest.mark.parametrize(("path", "published"), [(P0, "0.722"), (P1, "0.138")])
def test_published_distances(path: Path, published: str) -> None:
    assert f"{lpips_distance(REF, path):.3f}" == published
    assert f"{lpips_map(REF, path).mean():.3f}" == published  # the authors print the mean of the map


@pytest.fixture(scope="module")
def theirs() -> lpips.LPIPS:
    """The authors' own network."""
    slices = {"0": "slice1", "3": "slice2", "6": "slice3", "8": "slice4", "10": "slice5"}
    trunk = {key.removeprefix("features."): value for key, value in load_alexnet_features().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision by a deprecated argument
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    network.net.load_state_dict({f"{slices[key.split('.')[0]]}.{key}": value for key, value in trunk.items()})
    return network.eval().requires_grad_(False)


def test_the_very_number_of_the_package(theirs: lpips.LPIPS) -> None:
    one, two = (lpips.im2tensor(np.array(Image.open(path).convert("RGB"))) for path in (REF, P0))
    assert lpips_distance(REF, P0) == pytest.approx(theirs(one, two).item(), abs=1e-6)
    one, two = (tensor.clone(memory_format=torch.contiguous_format) for tensor in (one, two))
    assert lpips_distance(REF, P0) == theirs(one, two).item()  # im2tensor's memory layout moves the seventh digit


@pytest.mark.parametrize("shape", [(1, SMALL, SMALL), (3, 64, 97), (1, 333, 250)])
def test_every_bit_is_the_packages(theirs: lpips.LPIPS, shape: tuple[int, int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    one, two = (torch.rand(shape[0], 3, *shape[1:], generator=draw) * 2 - 1 for _ in range(2))
    plain, mapping = ours._models("cpu")
    try:
        for other in (two, two[:1]):
            for theirs.spatial, network in ((False, plain), (True, mapping)):
                assert torch.equal(network(one, other), theirs(one, other))
    finally:
        theirs.spatial = False
    made, expected = (network.net(network.scaling_layer(one)) for network in (plain, theirs))
    assert all(map(torch.equal, made, expected))


def test_identity_and_symmetry() -> None:
    assert lpips_distance(REF, REF) == 0
    assert lpips_distance(REF, P1) == pytest.approx(lpips_distance(P1, REF), abs=1e-7)


def test_mask_is_the_mean_of_the_map_inside() -> None:
    spatial = lpips_map(REF, P0)
    assert spatial.shape == (64, 64)
    assert spatial.dtype == np.float32
    mask = np.zeros((64, 64), bool)
    mask[10:30, 5:60] = True
    inside, outside = lpips_distance(REF, P0, mask), lpips_distance(REF, P0, ~mask)
    assert inside == pytest.approx(spatial[mask].mean(), rel=1e-6)
    whole = inside * mask.mean() + outside * (1 - mask.mean())
    assert whole == pytest.approx(spatial.mean(), rel=1e-6)
    assert lpips_distance(REF, P0, np.ones((64, 64))) == pytest.approx(spatial.mean(), rel=1e-6)


def test_a_local_change_is_found_where_it_is() -> None:
    picture = np.array(read_image(REF).resize((192, 96)))
    changed = picture.copy()
    changed[30:60, 10:40] = 255 - changed[30:60, 10:40]
    near, far = np.zeros((96, 192), bool), np.zeros((96, 192), bool)
    near[30:60, 10:40], far[:, 150:] = True, True
    assert lpips_distance(picture, changed, near) > 100 * lpips_distance(picture, changed, far)


def test_batches_agree_with_single_pictures(batch: torch.Tensor) -> None:
    maps = distances(batch, batch[:1])
    assert maps.shape == (3, 64, 64)
    assert not maps.requires_grad
    assert maps[0].abs().max() < 1e-6
    assert np.allclose(maps[1].numpy(), lpips_map(REF, P0), atol=1e-5)
    assert torch.allclose(maps, distances(batch[:1], batch), atol=1e-5)
    assert torch.allclose(maps, distances(batch, batch[:1].expand(3, -1, -1, -1)), atol=1e-5)


def test_half_precision_and_autocast_make_no_difference(batch: torch.Tensor) -> None:
    expected = distances(batch[:1], batch[1:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(distances(batch[:1], batch[1:2]), expected)
    assert distances(batch[:1].bfloat16(), batch[1:2].bfloat16()).dtype == torch.float32


def test_features_are_unit_vectors_that_know_likeness(batch: torch.Tensor) -> None:
    rows = features(batch)
    assert rows.shape == (3, 1152)
    assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)
    assert rows.min() >= 0
    cosines = rows @ rows.T
    assert cosines[0, 2] > cosines[0, 1] + 0.2  # ex_p1 is the one that looks like ex_ref
    assert torch.allclose(features(batch[:1]), rows[:1], atol=1e-5)


def test_building_is_silent_and_touches_nothing_of_the_process(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def borrow(*_: object, **__: object) -> None:
        raise AssertionError("another thread would see it")

    ours._built.cache_clear()
    torch.manual_seed(5)
    before, filters = torch.get_rng_state(), list(warnings.filters)
    with monkeypatch.context() as patch:
        patch.setattr(warnings, "catch_warnings", borrow)
        patch.setattr(torch.random, "fork_rng", borrow)
        plain, mapping = ours._models("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")
    assert ours._models("cpu")[0] is plain
    assert not plain.training
    assert not plain.spatial
    assert mapping.spatial
    assert mapping.net is plain.net
    assert not any(parameter.requires_grad for parameter in plain.parameters())


@pytest.mark.parametrize("shape", [(SMALL, SMALL), (SMALL, 70)])
def test_smallest_pictures(shape: tuple[int, int]) -> None:
    one, two = np.zeros((*shape, 3)), np.ones((*shape, 3))
    assert lpips_distance(one, two) > 0.1
    assert lpips_map(one, two).shape == shape


def test_too_small_pictures() -> None:
    small = Image.new("RGB", (70, SMALL - 1))
    with pytest.raises(InputError, match=f"at least {SMALL} pixels a side, these are 70 x 30"):
        lpips_distance(small, small)
    with pytest.raises(InputError, match=f"at least {SMALL}"):
        features(torch.zeros(1, 3, SMALL - 1, 70))


def test_unequal_sizes() -> None:
    other = Image.new("RGB", (40, 50))
    with pytest.raises(InputError, match=r"64 x 64 and 40 x 50.*b\.resize\(\(64, 64\)\)"):
        lpips_distance(REF, other)
    with pytest.raises(InputError, match="64 x 64 and 40 x 50"):
        lpips_map(REF, other)


def test_unusable_mask() -> None:
    with pytest.raises(InputError, match="marks nothing"):
        lpips_distance(REF, P0, np.zeros((64, 64)))


@pytest.mark.parametrize(
    ("harmed", "words"),
    [
        (torch.zeros(3, 64, 64), "shape"),
        (torch.zeros(0, 3, 64, 64), "shape"),
        (torch.zeros(1, 4, 64, 64), "shape"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 64, 64), -1.0), r"\(x \+ 1\) / 2"),
        (torch.full((1, 3, 64, 64), 255.0), r"lie in \[0, 1\]"),
        (torch.full((1, 3, 64, 64), float("nan")), "nan"),
        (torch.zeros(1, 3, 64, 65), "cannot be compared"),
        (torch.zeros(2, 3, 64, 64), "cannot be compared"),
    ],
)
def test_unusable_batches(harmed: torch.Tensor, words: str, batch: torch.Tensor) -> None:
    with pytest.raises(InputError, match=words):
        distances(batch, harmed)
