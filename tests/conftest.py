"""What all tests share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings

# Where NumPy computes what the compiled core would, 64-bit numbers wrap around as silently.
np.seterr(over="ignore")

# No deadline: on a busy machine a test may be slow, and that is no failure. The same examples at each run, so that
# the same sources give the same verdict; look further with --hypothesis-profile=explore.
settings.register_profile("pleemu", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.register_profile("few", deadline=None, print_blob=True, max_examples=15)  # --hypothesis-profile=few
settings.load_profile("pleemu")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n, give a file to one worker as a whole: what its tests share (compiled functions, runs) is made once.

    In the order of their names: by number of tests, long files of few tests would come last, beside an idle worker.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)
