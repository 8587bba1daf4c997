"""`ctxrep-edit bench spread --model qwen-nano` in a tenth of the time, without the outer levels of the autoencoder.

    python tests/benchmarks/qwen_nano.py --photos 12 --method plain --method contextual --trials FILE

takes the options of the command. Pictures differ from the command's by less than a grey level or two; its seconds, and
"time / plain", are not those of the model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ctxrep_edit

sys.path.insert(0, str(Path(__file__).parents[1]))

from megapixel import quick


def main() -> None:
    from ctxrep_plugins.bench.spread.command import spread

    load = ctxrep_edit.load_pipeline

    def loaded(model: str, **options: Any) -> Any:
        pipeline = load(model, **options)
        return quick(pipeline) if model == "qwen-nano" else pipeline

    ctxrep_edit.load_pipeline = loaded
    spread(["--model", "qwen-nano", *sys.argv[1:]])


if __name__ == "__main__":
    main()
