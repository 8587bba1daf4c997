"""Whether a picture still lies on its source."""

from __future__ import annotations

from collections.abc import Sequence

from ctxrep_plugins.checks.verdicts import where

from ctxrep_edit import Case, Check, Verdict

CROPPED = "cropped"


class Alignment(Check):
    """Whether the edit lies on its source: see `Evidence.motions` and `Case.frames`.

    Moving it back mends a motion, and a stretched picture has lost nothing. What was cropped away is gone.
    """

    name = "alignment"
    summary = "whether the picture was shifted, zoomed, stretched or cropped, in pixels of the most moved corner"

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        mended = case.realign or case.restore
        verdicts = []
        for i, motion in enumerate(case.evidence.motions):
            frame = case.frames[i] if case.frames else None
            turned = f"{frame}; that undone, " if frame and frame.how != "same" else ""
            reason = "the picture lies on its source"
            if motion.moved:
                reason = f"the picture was {motion}" + (", and was moved back" if mended else "")
                reason += "" if mended else ": realign=True moves it back"
            details = {
                **where(case.evidence, i),
                "shift": [motion.dx, motion.dy],
                "zoom": motion.zoom,
                "stretch": motion.stretch,
            }
            if frame:
                details["frame"] = frame.to_dict()
            kept = (mended or not motion.moved) and not (frame and frame.how == CROPPED)
            far, most = motion.displacement, motion.slight
            verdicts.append(Verdict(kept, "displacement", far, most, turned + reason, details, "moved"))
        return verdicts
