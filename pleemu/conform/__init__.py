"""Recorded vectors, replayed against the models: one file a format, and what drives them."""
