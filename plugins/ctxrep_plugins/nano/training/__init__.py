"""How the embedded models were trained: `python -m ctxrep_plugins.nano.training`."""
