"""Repulsion in contextual space: the ascent, where it is hooked in, and when it acts."""
