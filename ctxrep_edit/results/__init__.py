"""What the caller gets: the set of edits, its pictures and its files."""
