"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# No deadline: on a busy machine a test may be slow, and that is no failure.
settings.register_profile("pleemu", deadline=None, print_blob=True)
settings.load_profile("pleemu")
