"""Where the tokens of a GPU lie on the host, tried on a CPU: its pages alone are not locked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctxrep_edit import EditSet, diverse_edit
from ctxrep_edit.repulsion import room
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.room import Room


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that were asked for."""
    sizes: list[int] = []

    def unlocked(size: int) -> Tensor:
        sizes.append(size)
        return torch.full((size,), 255, dtype=torch.uint8)

    monkeypatch.setattr(room, "locked", unlocked)
    return sizes


def test_tokens_come_back_as_they_were(taken: list[int]) -> None:
    given = [
        torch.randn(3, 5), torch.randn(40, 7).bfloat16(), torch.randn(1).double(), torch.zeros(0, 4),
        torch.randn(300, 8).half(), torch.randn(6, 4).T,
    ]  # fmt: skip
    own = Room()
    kept = [own.copy(tokens) for tokens in given]
    for tokens, copied in zip(given, kept, strict=True):
        assert copied.dtype == tokens.dtype
        assert torch.equal(copied, tokens)


def test_tokens_share_pieces(monkeypatch: pytest.MonkeyPatch, taken: list[int]) -> None:
    monkeypatch.setattr(room, "LARGEST", 4096)
    own = Room()
    for _ in range(12):
        own.copy(torch.zeros(100))  # 400 bytes
    assert taken == [2048, 2048, 2048]
    own.copy(torch.zeros(1000))
    own.copy(torch.zeros(5000))
    assert taken[3:] == [4096, 32768]


def test_no_memory_is_an_error_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    unlocked = room.locked

    def scarce(size: int) -> Tensor:
        if size > 256:
            raise RuntimeError("out of memory")
        return unlocked(size)

    monkeypatch.setattr(room, "locked", scarce)
    own = Room()
    own.copy(torch.zeros(16))
    with pytest.raises(RuntimeError, match="out of memory"):
        own.copy(torch.zeros(64))


def test_a_set_is_the_same_by_way_of_rooms(monkeypatch: pytest.MonkeyPatch, taken: list[int]) -> None:
    asked = made()
    banks: list[Bank] = []

    def stored(bank: Bank, row: int, tokens: Tensor, rooms: dict[int, Room]) -> Tensor:
        banks.append(bank)
        return rooms.setdefault(row, Room()).copy(tokens)

    monkeypatch.setattr(Bank, "_stored", stored)
    again = made()
    assert taken
    assert not banks[0]._rooms  # each run has rooms of its own
    for one, other in zip(asked, again, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
    assert again.more(1, progress=False)[0].image.tobytes() == asked.more(1, progress=False)[0].image.tobytes()


def made() -> EditSet:
    picture = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)).numpy()
    return diverse_edit(
        picture, "change the light", 3, batch_size=2, steps=4, seed=0, preserve="off", bank="memory", progress=False
    )
