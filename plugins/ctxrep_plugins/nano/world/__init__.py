"""The world of the embedded models: six instructions, each an exact operation with several right answers.

A picture here is a float32 array (height, width, 3) in [0, 1]. Because every right answer can be computed for any
picture, distinct right answers and wrong ones can be counted instead of guessed.
"""

from ctxrep_plugins.nano.world.edits import EDITS, TYPICAL, Answer, Edit, Request, render, requests, understand
from ctxrep_plugins.nano.world.operations import Picture

__all__ = ["EDITS", "TYPICAL", "Answer", "Edit", "Picture", "Request", "render", "requests", "understand"]
