"""Moved to `pleemu.observe.events`."""

from pleemu.observe.events import *  # noqa: F403
