"""What training keeps on disk, so that it goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


def keep(made: Any, file: Path) -> None:
    """All or nothing."""
    part = file.with_suffix(".part")
    torch.save(made, part)
    part.replace(file)


def keep_decoder(vae: nn.Module, optimiser: torch.optim.Optimizer, step: int, file: Path) -> None:
    """An autoencoder in training, after so many steps."""
    keep({"vae": vae.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, file)


def taken_up(vae: nn.Module, optimiser: torch.optim.Optimizer, file: Path) -> int:
    """How many steps were made, with both as they were then; 0 where nothing was kept."""
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    vae.load_state_dict(state["vae"])
    optimiser.load_state_dict(state["optimiser"])
    step: int = state["step"]
    return step
