"""The command line: `ctxrep-edit photo.jpg "change the light"`."""

from ctxrep_edit.cli.app import bench, cli, main

__all__ = ["bench", "cli", "main"]
