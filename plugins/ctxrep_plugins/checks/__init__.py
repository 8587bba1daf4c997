"""The checks that come with ctxrep-edit: whether an edit kept what it should, and did what was asked.

Each says one thing that a user can act on, from the evidence of the case: edits moved back onto their source, and where
each was edited.
docs/faithfulness.md says how the bounds were found.
"""

from __future__ import annotations

from ctxrep_plugins.checks.alignment import Alignment
from ctxrep_plugins.checks.change import Change
from ctxrep_plugins.checks.preservation import Preservation

from ctxrep_edit import Check

CHECKS: tuple[type[Check], ...] = (Preservation, Change, Alignment)
"""The default ones, in the order in which they are asked."""
