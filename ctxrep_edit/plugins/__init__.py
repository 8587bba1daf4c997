"""The seam: what plugins may provide, how they are loaded, and what they provide, by name."""
