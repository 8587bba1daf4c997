"""The strict judge as a check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Case, Check, Verdict

if TYPE_CHECKING:
    from ctxrep_plugins.nano.world import Request
    from ctxrep_plugins.nano.world.judge import Ruling


class RightAnswer(Check):
    """Whether an edit is one of the right answers to its instruction, whole, and nothing else moved.

    Only for the phrases and the sizes of the embedded models. pipeline: whose autoencoder the edits came through; None:
    kontext-nano's, which the embedded models share.
    """

    name = "right-answer"
    summary = "whether an edit is one of the right answers, for what the embedded models know"

    def __init__(self, pipeline: Any = None) -> None:
        self.pipeline = pipeline

    def prepare(self) -> None:
        from ctxrep_edit import load_pipeline

        self.pipeline = self.pipeline or load_pipeline("kontext-nano", progress=False)

    def verdicts(self, case: Case) -> Sequence[Verdict]:
        from ctxrep_plugins.nano.world import understand
        from ctxrep_plugins.nano.world.judge import Judge

        self.prepare()
        picture, judges, verdicts = case.source[0].permute(1, 2, 0).numpy(), dict[str, Judge](), list[Verdict]()
        for edit, words in zip(case.edits, case.instructions, strict=True):
            asked = understand(words)
            if asked is None:
                why = f"what a right answer to {words!r} is, the world of the embedded models does not say"
                verdicts.append(Verdict.not_asked("error", why))
                continue
            kind = asked.edit
            judges[kind.name] = judges.get(kind.name) or Judge(kind, picture, self.pipeline)
            verdicts.append(_verdict(judges[kind.name](edit), asked))
        return verdicts


def _verdict(ruling: Ruling, asked: Request) -> Verdict:
    shown = " ".join(ruling.answer)
    if ruling.right and ruling.answer not in asked.answers:
        return Verdict(False, "error", ruling.error, 1.0, f"it shows {shown!r}, which is not what was asked")
    reason = f"its error against the answer {shown!r} is {ruling.error:.2f} times what is allowed"
    return Verdict(ruling.right, "error", ruling.error, 1.0, reason, {"answer": list(ruling.answer)})
