"""`bench faithful`: what the default checks catch, and what they flag wrongly."""
