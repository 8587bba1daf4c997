"""Whether an edit kept what it was not asked to change: the evidence, and what is measured on it."""
