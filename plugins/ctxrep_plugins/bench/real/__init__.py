"""How well the default checks judge real edits that somebody labelled."""
