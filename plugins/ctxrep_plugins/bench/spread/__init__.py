"""`bench spread`: how many different right answers a method gives, and how many wrong ones."""
