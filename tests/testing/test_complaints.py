"""The conformance kit finds what is wrong with a plugin, and says so: one broken plugin or more per test of the kit."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken_adapters as bad
import broken_parts as parts
import pytest
import tiny_sd3

from ctxrep_edit import CtxrepError, testing
from ctxrep_edit.testing import (
    AdapterConformance,
    CheckConformance,
    EmbedderConformance,
    ExporterConformance,
    PluginConformance,
    SteeringConformance,
    StrategyConformance,
    tiny_pipeline,
)


class Adapters(AdapterConformance):
    options = {"max_sequence_length": 16}


class Misspelt(AdapterConformance):
    options = {"max_sequence_length": 16, "guidance_skale": 2.0}


class Guided(Adapters):
    guided = {"guidance_scale": 1.0}


class Steering(SteeringConformance):
    """It names an end that is none."""

    def ends(self, edits: Any) -> Any:
        return [(parts.Motionless(), 1)]


KITS = (
    Adapters, StrategyConformance, Steering, CheckConformance, EmbedderConformance, ExporterConformance,
    PluginConformance,
)  # fmt: skip


def adapter(
    test: str, broken: Any, message: str, kit: type = Adapters, pipeline: Callable[[], Any] = tiny_pipeline
) -> Any:
    return pytest.param(
        kit, f"test_{test}", {"adapter": broken, "pipeline": pipeline}, message, id=f"{test}-{broken.__name__}"
    )


def strategy(test: str, broken: Any, message: str) -> Any:
    things = {"strategy": broken, "pipeline": tiny_pipeline, "adapter": bad.FluxKontext}
    return pytest.param(StrategyConformance, f"test_{test}", things, message, id=f"{test}-{broken.__name__}")


def three_edits() -> Any:
    return SteeringConformance().edits.__wrapped__(SteeringConformance(), tiny_pipeline(), bad.FluxKontext())


def steering(test: str, broken: Any, message: str) -> Any:
    things = {"strategy": broken, "pipeline": tiny_pipeline, "adapter": bad.FluxKontext, "edits": three_edits}
    return pytest.param(Steering, f"test_{test}", things, message, id=f"{test}-{broken.__name__}")


def part(kit: type, what: str, test: str, broken: Any, message: str, **things: Any) -> Any:
    return pytest.param(kit, f"test_{test}", {what: broken, **things}, message, id=f"{what}-{test}-{broken.__name__}")


def check(test: str, broken: Any, message: str) -> Any:
    return part(CheckConformance, "check", test, broken, message, case=testing.case)


def embedder(test: str, broken: Any, message: str) -> Any:
    return part(EmbedderConformance, "embedder", test, broken, message, pictures=testing.fakes.pictures)


def exporter(test: str, broken: Any, message: str) -> Any:
    return part(ExporterConformance, "exporter", test, broken, message, edits=testing.edit_set)


def plugin(test: str, text: str, message: str) -> Any:
    return pytest.param(PluginConformance, f"test_{test}", {"text": lambda: text}, message, id=f"{test}-{message[:20]}")


def without_autoencoder() -> Any:
    pipeline = tiny_pipeline()
    pipeline.vae = None
    return pipeline


def sd3() -> Any:
    return tiny_sd3.pipeline(tiny_sd3.CLASSES[0])


ADAPTERS = [
    adapter("previews_become_the_pictures", bad.Foreseeing, "unpacked() and decode() give other pictures than the pip"),
    adapter("declarations_hold_together", bad.OfAnotherClass, "does not name FluxKontextPipeline."),
    adapter("declarations_hold_together", bad.NoDefault, "`default.scope` is 'all', which is none of the scopes"),
    adapter("declarations_hold_together", bad.NoBlocks, "The transformer has no list of blocks 'blocks'."),
    adapter("declarations_hold_together", bad.NotStreamed, "names 'transformer_blocks', but `streams` does not."),
    adapter("declarations_hold_together", bad.NoPart, "names words, but parts are instruction, padding,"),
    adapter("importing_it_imports_no_torch", bad.Heavy, "Importing torch imports torch: every start of"),
    adapter("strength_0_is_the_pipeline_without_us", bad.Meddling, "Strength 0 gives other pictures than"),
    adapter("shapes_ranges_and_dtypes", bad.OnePicture, "made (1, 3, 48, 64), but must make (2, 3, h, w)"),
    adapter("shapes_ranges_and_dtypes", bad.Unscaled, "but must be in [0, 1]."),
    adapter("bfloat16", bad.Float32, "In bfloat16 it fails: "),
    adapter("the_same_seeds_give_the_same_pictures", bad.Random, "The same seeds give other pictures at a second"),
    adapter("n_and_order", bad.Reversed, "Edit 0 of n=2 is not edit 0 of n=3"),
    adapter("n_and_order", bad.OneSeed, "Edits of different seeds are the same picture"),
    adapter("the_steps_that_are_asked_for", bad.OwnSteps, "`request.steps` is not respected: 2 steps, however"),
    adapter("with_and_without_a_mask", bad.NeedsMask, "Without a mask it raises AttributeError: 'NoneType'"),
    adapter("size_is_what_the_pipeline_makes", bad.Rounded, "size() says 836 x 1252, but the pipeline makes 832"),
    adapter("size_is_what_the_pipeline_makes", bad.Turned, "size() makes 300 x 200 into 832 x 1248."),
    adapter(
        "the_autoencoder_makes_the_round_trip", bad.FluxKontext, "The checks cannot use the pipeline's autoencoder",
        pipeline=without_autoencoder,
    ),
    adapter(
        "diverse_edit_drives_it", bad.FluxKontext,
        "diverse_edit cannot drive it: FluxKontextPipeline has no option 'guidance_skale'", kit=Misspelt,
    ),
    adapter("every_scope_changes_the_pictures", bad.OtherModule, "The repulsion hook never ran"),
    adapter("every_scope_changes_the_pictures", bad.NoEffect, "in the scope 'context' changes nothing in the"),
    adapter("detached_the_pipeline_is_as_it_was", bad.Leaky, "something is left, in transformer."),
    adapter("an_exception_after_a_step_leaves_no_trace", bad.Leaky, "something is left on the pipeline, in trans"),
    adapter("a_pool_is_given_row_by_row", bad.OtherRows, "In a pool the plain first edit is another: `rows` must give"),
    adapter("an_exception_in_a_block_leaves_no_trace", bad.Leaky, "something is left on the pipeline, in trans"),
    adapter(
        "it_moves_in_its_steps_and_blocks_alone", bad.OtherScope,
        "The scope 'context' moved tokens at single_transformer_blocks[0] in step 0, which is outside",
    ),
    adapter("it_moves_the_tokens_of_its_scope_alone", bad.AllGenerated, "48 of 48 reference tokens moved in the"),
    adapter("it_moves_the_tokens_of_its_scope_alone", bad.Swapped, "The blocks of transformer_blocks do not return"),
    adapter("the_instruction_is_what_is_marked", bad.Padded, "marks 16 tokens of 'change the light' and 16 of 'it'"),
    adapter("it_moves_the_tokens_of_its_scope_alone", bad.LongWords, "marks (512,) tokens, but there are 16."),
    adapter("it_moves_the_tokens_of_its_scope_alone", bad.NoWords, "instruction() marks no token."),
    adapter(
        "guidance_moves_the_rows_that_follow_the_instruction", bad.WrongHalf,
        "the rows that follow it are [False, False, True, True] in call 0", pipeline=sd3,
    ),
    adapter(
        "guidance_moves_the_rows_that_follow_the_instruction", bad.Img2Img,
        "{'guidance_scale': 1.0} does not switch guidance on", kit=Guided, pipeline=sd3,
    ),
]  # fmt: skip

STRATEGIES = [
    strategy("it_says_what_it_is", parts.Speechless, "Speechless.summary is empty."),
    strategy("it_says_what_it_is", parts.Powerless, "Its strength is 0.0, but 0 would not even ask it."),
    strategy("it_makes_pictures", parts.TooBright, "The pictures' values are "),
    strategy("it_makes_pictures", parts.TooFew, "The strategy broken made (0, 3, 48, 64), but must make (1, 3"),
    strategy("the_same_seeds_give_the_same_pictures", parts.Moody, "The same seeds give other pictures at a second"),
    strategy("the_candidates_are_not_the_plain_ones", parts.Idle, "Candidate 0 is the plain one: nothing moved it."),
    strategy("the_candidates_are_not_the_plain_ones", parts.NotStill, "run.still is 1, but candidate 0 is not the"),
    strategy("what_it_notes_is_true", parts.OneSeed, "run.seeds is [0, 0, 0]: each candidate has noise of its own."),
    strategy("what_it_notes_is_true", parts.Boastful, "run.contextual_vendi is (1.0, 7.0), but Vendi scores of 3"),
    strategy("it_runs_the_pipeline_through_its_run", parts.Solitary, "No step was reported: call the pipeline with"),
    strategy("it_leaves_no_trace", parts.Forgetful, "It leaves something on the pipeline, in transformer.transform"),
    strategy("broken_off_it_leaves_no_trace", parts.Careless, "broken off, something is left on the pipeline, in tr"),
    strategy("it_hands_on_what_others_made", parts.Hoarding, "It keeps run.bank to itself, so that batches know"),
    strategy("it_hands_on_the_ranks", parts.Rankless, "does not hand run.ranks to `repelled`"),
]

STEERING = [
    steering("steering_is_pure", parts.Idle, "so it reads more settings than the strength: set repels."),
    steering("tokens_keep_their_form", parts.Boundless, "after hooked block 0: it returned tokens that are not finite"),
    steering("tokens_keep_their_form", parts.Halved, "after hooked block 0: it returned [((3, "),
    steering("tokens_keep_their_form", parts.Everywhere, "it moved tokens that take no part: put them back by `part"),
    steering("tokens_keep_their_form", parts.Motionless, "It moved no token at all."),
    steering("steering_changes_nothing_that_it_is_given", parts.Steered, "it changed the tokens it was given: work on"),
    steering("steering_is_pure", parts.Wilful, "after hooked block 0: asked again, it moves the same tokens other"),
    steering("the_ends_are_the_edits", parts.Motionless, "A candidate that is to be edit 2 again is "),
]

CHECKS = [
    check("it_says_what_it_is", parts.Nameless, "Nameless.name is None, but must be text."),
    check("one_verdict_per_edit", parts.OneVerdict, "It gave 1 verdicts of 3 edits."),
    check("one_verdict_per_edit", parts.Booleans, "It gave True instead of a Verdict."),
    check("verdicts_can_be_read_and_written", parts.Infinite, "value is inf, but must be finite."),
    check("verdicts_can_be_read_and_written", parts.Tensors, "use float()."),
    check("verdicts_can_be_read_and_written", parts.NoJson, "A verdict does not survive JSON"),
    check("verdicts_are_in_order", parts.Sorted, "Edit 0 is judged otherwise in another order"),
    check("it_changes_nothing", parts.Clamping, "It changed the pictures that it was given: work on a copy."),
]

EMBEDDERS = [
    embedder("it_says_what_it_is", parts.TwoLines, "TwoLines.summary has more than one line."),
    embedder("one_row_per_picture", parts.Maps, "It gave (3, 3, 64, 64), but must give (n, features)."),
    embedder("one_row_per_picture", parts.Whole, "but must give floating point."),
    embedder("one_row_per_picture", parts.Zeros, "There is a row of zeros, which has no direction."),
    embedder("equal_pictures_have_equal_rows", parts.Noisy, "Equal pictures have other rows."),
    embedder("equal_pictures_have_equal_rows", parts.Centred, "A picture's row depends on the other pictures."),
    embedder("different_pictures_have_different_directions", parts.Blind, "all rows have one direction."),
    embedder("it_changes_nothing", parts.InPlace, "It changed the pictures that it was given: work on a copy."),
]

EXPORTERS = [
    exporter("it_says_what_it_is", parts.Untitled, "Untitled.name is empty."),
    exporter("it_writes_into_its_folder_and_nowhere_else", parts.Beside, "outside of the folder it is given: here/b"),
    exporter("it_writes_into_its_folder_and_nowhere_else", parts.Nothing, "It writes no file."),
    exporter("it_works_twice", parts.Numbered, "The second time it writes ['2.txt'] instead of ['1.txt']."),
    exporter("any_set", parts.NeedsVerdicts, "A set that is unchecked cannot be exported: The exporter broken failed"),
    exporter("it_changes_nothing", parts.Painting, "It changed the set that it was given: work on a copy."),
]

HEAD = 'from ctxrep_edit import Strategy, hookimpl\nctxrep_api = "1.0"\n'
MINE = """
class Mine(Strategy):
    name, summary = {name!r}, "of mine"
    def sample(self, run): return run.call()
{mark}
def ctxrep_strategies(): return [{things}]
"""


def module(name: str = "mine", mark: str = "@hookimpl", things: str = "Mine()") -> str:
    return HEAD + MINE.format(name=name, mark=mark, things=things)


PLUGINS = [
    plugin("importing_it_imports_no_torch", "import torch\n" + module(), "Importing theirs imports torch"),
    plugin("importing_it_imports_no_torch", module(things="__import__('torch')"), "Importing theirs imports torch"),
    plugin("importing_it_imports_no_torch", "import no_such", "No module named 'no_such'"),
    plugin(
        "it_states_an_api_version_that_is_supported", module().replace("ctxrep_api", "api"),
        'theirs does not state its API version: write ctxrep_api = "1.0".',
    ),
    plugin(
        "it_states_an_api_version_that_is_supported", module().replace('"1.0"', '"7.0"'), "It needs API 7.0 and this",
    ),
    plugin(
        "its_hooks_are_those_of_the_specification", module().replace("ctxrep_strategies", "ctxrep_strategy"),
        "unknown hook 'ctxrep_strategy'",
    ),
    plugin(
        "its_hooks_are_those_of_the_specification", module(mark=""),
        "theirs.ctxrep_strategies is not decorated with ctxrep_edit.hookimpl.",
    ),
    plugin("what_it_brings_is_what_its_hooks_promise", module(things="Mine"), "which is no instance of Strategy."),
    plugin("its_names_are_its_own", module(things="Mine(), Mine()"), "It brings the strategy 'mine' 2 times."),
    plugin("its_names_are_its_own", module("cads"), "brings a strategy 'cads' already: choose another name."),
    plugin(
        "its_names_are_its_own",
        HEAD + "from ctxrep_adapters.flux_kontext import FluxKontext as Theirs\n@hookimpl\ndef ctxrep_adapters():\n"
        "    made = Theirs()\n    made.name = 'mine'\n    return [made]\n",
        "drives FluxKontextPipeline already, with the adapter 'flux-kontext'.",
    ),
]  # fmt: skip

ALL = [*ADAPTERS, *STRATEGIES, *STEERING, *CHECKS, *EMBEDDERS, *EXPORTERS, *PLUGINS]


@pytest.mark.parametrize(("kit", "test", "things", "message"), ALL)
def test_the_kit_complains(
    kit: type, test: str, things: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: make() for name, make in things.items()} | {"tmp_path": tmp_path, "monkeypatch": monkeypatch}
    if kit is PluginConformance:
        (tmp_path / "theirs.py").write_text(given["text"], "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "theirs", raising=False)
        given["module"] = "theirs"
    method = getattr(kit(), test)
    arguments = {name: given[name] for name in inspect.signature(method).parameters}
    with pytest.raises((AssertionError, CtxrepError, pytest.fail.Exception)) as caught:
        method(**arguments)
    sys.modules.pop("theirs", None)
    assert message in str(caught.value)


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.__name__)
def test_every_test_of_the_kit_can_fail(kit: type) -> None:
    covered = {case.values[1] for case in ALL if isinstance(case.values[0], type) and issubclass(kit, case.values[0])}
    covered |= {case.values[1] for case in ADAPTERS} if kit is Adapters else set()
    assert {name for name in dir(kit) if name.startswith("test_")} <= covered


FIRST = "says_what_it_is or declarations or states_an_api_version"  # a test of each kit


def test_what_must_be_overridden_is_said(tmp_path: Path) -> None:
    kits = [kit for kit in testing.__all__ if kit.endswith("Conformance")]
    lines = [f"class Test{kit}({kit}): pass" for kit in kits]
    (tmp_path / "test_mine.py").write_text("\n".join(["from ctxrep_edit.testing import *", *lines]), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py", "-k", FIRST]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stdout
    for fixture in ("pipeline", "strategy", "check", "embedder", "exporter", "module"):
        assert f"Override the fixture `{fixture}`: it gives " in done.stdout
