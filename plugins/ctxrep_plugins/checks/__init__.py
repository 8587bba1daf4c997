"""The checks that come with ctxrep-edit: whether an edit kept what it should, and did what was asked.

Each measures one thing on the evidence of the case: edits moved back onto their source, and where each was edited.
docs/faithfulness.md says how the bounds were found.
"""

from __future__ import annotations

from ctxrep_plugins.checks.change import Change
from ctxrep_plugins.checks.objects import Missing, Moved, Strays
from ctxrep_plugins.checks.outside import Colour, Pixels, Preservation
from ctxrep_plugins.checks.structure import Alignment, Structure
from ctxrep_plugins.checks.whole import Grain, Uniformity

from ctxrep_edit import Check

CHECKS: tuple[type[Check], ...] = (
    Preservation, Change, Pixels, Colour, Alignment, Structure, Strays, Moved, Missing, Uniformity, Grain,
)  # fmt: skip
"""The default ones, in the order in which they are asked."""
