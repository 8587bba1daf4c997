"""ctxrep-edit: image editing models that give different good answers.

The public names are listed in `__init__.pyi`; each is loaded when it is first asked for, so that the import itself
needs no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
