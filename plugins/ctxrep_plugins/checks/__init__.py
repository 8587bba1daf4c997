"""The checks that come with ctxrep-edit: whether an edit kept what it should, and did what was asked."""
