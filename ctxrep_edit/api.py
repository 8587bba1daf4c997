"""The verbs: `diverse_edit` makes n different edits, each checked, and `stream_edits` hands them over one by one;
`assess` scores pictures that anybody made."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ctxrep_edit import __version__
from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.faithfulness.given import read_given
from ctxrep_edit.faithfulness.judgement import checks_named, prepared
from ctxrep_edit.imaging import ImageLike, Source, read_references, read_source
from ctxrep_edit.plugins.contracts import Check, Strategy
from ctxrep_edit.results.assembly import assemble
from ctxrep_edit.results.edit import Edit
from ctxrep_edit.results.editset import EditSet
from ctxrep_edit.results.making import EditStream, on_the_cpu, stream
from ctxrep_edit.sampling.asked import BankKind, Distinct, OnUnfaithful
from ctxrep_edit.sampling.candidates import Candidates
from ctxrep_edit.sampling.forming import OnPreview
from ctxrep_edit.sampling.plan import plan
from ctxrep_edit.sampling.run import OnStep
from ctxrep_edit.settings import Repulsion


def diverse_edit(
    image: ImageLike, instruction: str, n: int = 6, *,
    model: str | Path | None = None, pipeline: Any = None, strategy: str | Strategy = "contextual",
    strength: float | Literal["auto"] = "auto", scope: str | None = None, window: float | None = None,
    oversample: int | None = None, repulsion: Repulsion | None = None, unlike: Sequence[Edit | ImageLike] = (),
    like: Edit | None = None, spread: float | None = None, vary: Sequence[str] | None = None, seed: int | None = None,
    steps: int | None = None, mask: ImageLike | None = None, references: Sequence[ImageLike] = (),
    instruction_mask: Any = None, preserve: Literal["auto", "off"] | Sequence[str | Check] = "auto",
    realign: bool = False, restore: bool = False, on_unfaithful: OnUnfaithful = "flag", distinct: Distinct = "count",
    retries: int = 2, batch_size: int | Literal["auto"] = "auto", bank: BankKind = "auto", group: Any = None,
    device: str | None = None, dtype: Any = None, progress: bool = True, on_step: OnStep | None = None,
    on_preview: OnPreview | None = None, **pipeline_kwargs: Any,
) -> EditSet:  # fmt: skip
    """Edits `image` n times as `instruction` says, the candidates repelling one another in contextual space.

    image: PIL image, path, bytes, numpy array or tensor, at most twelve times as long as wide; see
        `read_image` for shapes and value ranges.
    instruction: what to change, in words. n: how many edits, >= 1.
    model: an embedded model's name (None: "kontext-nano"), a local pipeline folder, or a hub id. pipeline: your own
        loaded pipeline instead; it is left as it was found, also after an exception or Ctrl-C.
    strategy: what moves the candidates apart: the name of an installed one, or an object of your own.
    strength: of the repulsion, without units, >= 0; "auto" is the default of the model or its family (of the strategy,
        for another than "contextual"); 0 is plain sampling. scope: which tokens repel, a name among the adapter's
        scopes. window: for how much of the noise, from its start, they repel, above 0 and up to 1: a wider one finds
        more answers, a narrower one holds more of what the words ask for. oversample: how many times n candidates
        start, of which the n that differ most go on after the window. repulsion: all settings at once; these four,
        where given, still win.
    unlike: edits of earlier sets of this picture and instruction, from which all of these are repelled too, see
        `EditSet.more`; or pictures of the image's aspect that anybody made, where the adapter has a `pack`.
    like: an edit of an earlier set of this picture and instruction, of which these are to be variations. spread: how
        far from it they may be, 0 (the edit itself) to 1 (as without `like`); None: 0.3. See `EditSet.like`.
    vary: values, such as ["red", "blue"], two at least and at most n, of which each edit is asked for one, in turn: the
        value takes the place of "{}" in the instruction, or is put behind it and a comma. Each edit is made by itself,
        by words of its own, and repelled from those before, whatever they were asked for; no more of them start than
        are wanted, unless `oversample` says so.
    seed: of the first edit's noise, the others follow; None draws one. The same seed gives the same pictures on the
        same machine; without oversampling edit i starts from the same noise for any n.
    steps: of the sampler; None is the model's default. mask: where the edit is allowed, white (or, in a picture with
        transparency, transparent), in the image's aspect; inpainting pipelines are given it too.
    references: further pictures that the instruction speaks of, in its order, each of its own size, for pipelines that
        take several; `Adapter.references` says how many.
    preserve: "auto" asks `DEFAULT_CHECKS`, and those of an embedded model, whether what should not change has; "off"
        needs no LPIPS weights; or the checks to ask, by name or as objects of your own, all of which an edit must pass.
    realign: move edits back that came back shifted or zoomed. restore: put the source's own pixels back outside the
        edited region, feathered, at the source's size, which takes 5 bytes of memory per pixel and edit (6 edits of
        100 megapixels: 3 GB); it realigns too. An edit of the whole picture has no outside. Transparency of the source
        is laid on white for the model; only restored edits have it again, outside the region.
    on_unfaithful: what becomes of edits that fail a check: "flag" returns them with their verdicts; "retry" makes them
        again, at most `retries` times, each time from other noise and repelled from the kept ones, and then returns
        them with their verdicts; "drop" leaves them out, in `dropped`; "raise" raises Unfaithful.
    distinct: "retry" makes edits again that repeat another, or one of those in `unlike`, as `EditSet.distinct` counts,
        in the same rounds: a new one is taken that passes the checks and repeats none, or the old one stays. Where
        three quarters of four or more are one edit, all are left as they are, as the words then leave nothing open; the
        recipe says `agreed`. It needs the LPIPS weights. "count": none is made again.
    batch_size: how many candidates are made at once, 1 to n; those of a batch are repelled from one another and from
        all of the batches before. Where more start than are wanted, those of six edits at least are through the window
        before the first batch is finished. "auto" takes as many as fit by what one candidate was measured to take on
        this pipeline; a batch that runs out of memory is made again as two halves. The recipe says what the `batches`
        were.
    bank: where the contextual tokens of finished candidates lie, which repel later ones: "memory", the host's; "disk",
        files without a name, in the folder for temporary ones. "auto" takes the memory, and keeps them for
        `EditSet.more` only where that takes at most an eighth of what is free; "off" keeps none.
    group: of torch.distributed; every rank in it makes this very call with a pipeline on a device of its own, makes its
        share of the n candidates, repelled from those of all ranks, and returns the whole set. They start at once,
        without oversampling. A rank that ends, or is silent for the group's time-out, ends the others with an error.
    device, dtype: for loading `model`; not with `pipeline`. progress: a progress bar on stderr.
    on_step: called with (step, steps) after each step; an exception that it raises ends the run. on_preview: likewise,
        with a `Forming`, whose `pictures` are previews of the candidates of the batch, from the step on in which it is
        known which of them go on; costs nothing but what is asked of it, and changes no edit.
    instruction_mask: with `prompt_embeds`, which of their tokens are words: bool (tokens,), a tensor, array or list.
    pipeline_kwargs: handed to the pipeline's call; `denoising_strength` is the `strength` of an inpainting pipeline.

    Raises InputError, ModelError, UnknownPipeline, WeightsError, PluginError, RepulsionError or Unfaithful, all of
    them CtxrepError.
    """
    asked = {
        "image": read_source(image), "references": read_references(references), "instruction": instruction,
        "model": model, "pipeline": pipeline, "strategy": strategy, "strength": strength, "scope": scope,
        "window": window, "oversample": oversample, "repulsion": repulsion, "steps": steps, "mask": mask,
        "instruction_mask": instruction_mask, "preserve": preserve, "realign": realign, "restore": restore,
        "on_unfaithful": on_unfaithful, "distinct": distinct, "retries": retries, "batch_size": batch_size,
        "bank": bank, "group": group, "device": device, "dtype": dtype, "vary": vary, "options": pipeline_kwargs,
    }  # fmt: skip
    return stream(
        asked, n, each=False, seed=seed, unlike=unlike, like=like, spread=spread, progress=progress, on_step=on_step,
        on_preview=on_preview,
    ).finish()  # fmt: skip


def stream_edits(
    image: ImageLike, instruction: str, n: int = 6, *, seed: int | None = None, unlike: Sequence[Edit | ImageLike] = (),
    progress: bool = True, on_step: OnStep | None = None, on_preview: OnPreview | None = None, **options: Any,
) -> EditStream:  # fmt: skip
    """`diverse_edit`, but each edit as soon as its batch is made and judged:

        for edit in stream_edits(image, "make it autumn", n=6, batch_size=2):
            edit.image.show()

    options: whatever else `diverse_edit` takes, those of the pipeline's call among them. What can be wrong is found
    before anything is made; errors are the same. See `EditStream`, whose `edits` is the set at the end.
    """
    known = inspect.signature(plan).parameters
    asked = {name: value for name, value in options.items() if name in known and name != "options"}
    others = {name: value for name, value in options.items() if name not in asked}
    asked |= {"image": read_source(image), "instruction": instruction, "options": others}
    asked["references"] = read_references(asked.get("references", ()))
    now: dict[str, Any] = {name: asked.pop(name) for name in ("like", "spread") if name in asked}  # of this run alone
    now |= {"seed": seed, "unlike": unlike, "progress": progress, "on_step": on_step, "on_preview": on_preview}
    return stream(asked, n, **now)


def assess(
    source: ImageLike, edits: Sequence[ImageLike], mask: ImageLike | None = None, *,
    checks: Sequence[str | Check] | None = None, instruction: str = "",
) -> EditSet:  # fmt: skip
    """The `edits` of `source`, whoever made them, as a set with verdicts, regions and spread.

    All pictures are brought to one size by Lanczos, in the source's aspect: the source's own or that of the smallest
    edit, whichever has fewer pixels, made smaller where the longer side is above 768 pixels, and larger where the
    shorter one is below 48. Where the aspect of an edit differs, it is found out whether it was stretched, cropped or
    padded, and undone; the verdict of `alignment` says so. mask: where edits were allowed, in the aspect of `source`,
    as in `diverse_edit`. checks: None asks the default ones. As no autoencoder is known, what an edit may lose is
    counted from the source itself. The `name` of an edit is that of its file, its seed None; recipe says at which
    `size` was measured, and which were `given`: the source's, then the edits'.

    Raises InputError for pictures that cannot be used, for no edits, and for pictures that are more than twelve times
    as long as wide; WeightsError.
    """
    with on_the_cpu():
        return _assessed(source, edits, mask, checks, instruction)


def _assessed(
    source: ImageLike, edits: Sequence[ImageLike], mask: ImageLike | None, checks: Sequence[str | Check] | None,
    instruction: str,
) -> EditSet:  # fmt: skip
    # 1. Everything that can be wrong is found before anything is measured.
    given = read_given(source, edits, mask)
    asked = checks_named("auto" if checks is None else checks)
    prepared(asked)
    # 2. The edits are judged as if we had made them.
    n = len(given.edits)
    case = Case(given.source, given.edits, given.mask, instruction, False, lambda: given.source, frames=given.frames)
    found = Candidates(given.edits, list(range(n)), [None] * n, case, asked)
    # 3. The set.
    recipe = {
        "ctxrep_edit": __version__, "model": None, "n": n, "checks": [check.name for check in asked],
        "given": [list(size) for size in given.sizes],
    }  # fmt: skip
    return assemble(found, Source(given.picture), recipe, names=given.names)
