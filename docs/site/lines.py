"""Makes the reference readable: in a docstring, a line that begins with "name:" begins a paragraph of its own."""

import re
from typing import Any

import griffe


class Lines(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?<!\n)\n(?=\w+(?:, \w+)*: )", "\n\n", obj.docstring.value)
