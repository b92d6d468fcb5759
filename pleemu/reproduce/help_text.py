"""What stands below the options of ``pleemu reproduce --help``."""

from __future__ import annotations

_EXAMPLES = """\
Examples:
  pleemu reproduce                              (all of it, in less than ten minutes on two CPUs)
  pleemu reproduce talk four-vms --seeds 20 --output thorough
  pleemu reproduce --markdown                   (the table in the README; finished runs are not repeated)"""

# The keys of the object, as `pleemu reproduce --help` documents them.
KEYS = {
    "statistics": "what means, ratios and intervals are over",
    "criteria": "what each verdict means",
    "calibration": "what was fitted to which published figure",
    "lengths": "why the runs may be as short as they are",
    "quick": "whether the runs were few and short",
    "parts": "name, title, text, seeds, duration_ms (emulated in each run), measurements: setting, policy, and of each "
    "measure mean, low, high, n; a ratio is to the part's first policy; null: it has none",
    "findings": "published results: part, settings, setting (which decides), policy, beside, measure, kind, value, "
    "text, source, note, ours (mean, low, high, n; or null), verdict",
    "runs": "part, setting, policy, seed, and the digest of all events",
}


def reproduce_help() -> str:
    """Return examples, and the keys of the JSON object."""
    keys = "\n".join(f"  {key:14}{meaning}" for key, meaning in KEYS.items())
    return f"{_EXAMPLES}\n\nKeys of the JSON object:\n{keys}"
