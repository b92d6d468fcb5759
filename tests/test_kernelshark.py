"""KernelShark opens a written trace.dat and draws its pCPU and its tasks: seen on a screen that nobody sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from made_runs import scenario_of

from pleemu.observe import events
from pleemu.trace.files import trace_file

TOOLS = ("kernelshark", "xvfb-run", "xdotool", "import")
absent = [tool for tool in TOOLS if shutil.which(tool) is None]

# It warns root at first; any key ends the warning. Then it draws, sooner or later.
SCRIPT = """
kernelshark --cpu 0 --pid 2677,2678 "$1" & shark=$!
for turn in $(seq 40); do
    sleep 1; xdotool key Return
    import -window root "$2.part.ppm" && mv "$2.part.ppm" "$2.$turn.ppm"
    test -e "$2.enough" && break
done
kill $shark
"""


def coloured_lines(picture: bytes) -> int:
    """Return how many pixel lines of a PPM have at least 200 pixels of strong colour: plots, not icons or buttons."""
    head, data = picture.split(b"\n", 3)[:3], picture.split(b"\n", 3)[3]
    width, height = map(int, head[1].split())
    deep = int(head[2]) > 255
    pixels = np.frombuffer(data, ">u2" if deep else "u1").reshape(height, width, 3).astype(int)
    strong = pixels.max(axis=2) - pixels.min(axis=2) > int(head[2]) // 2
    return int((strong.sum(axis=1) >= 200).sum())


@pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")
def test_kernelshark_draws_the_tasks(tmp_path: Path) -> None:
    """A plot of the pCPU and one of each task: two vCPUs in turns, a millisecond each."""
    happened = []
    for turn in range(100):
        cycle, vcpu = turn * 2_100_000, turn % 2
        happened.append((cycle, events.SCHED_SWITCH, 0, 1 - vcpu, 1 - vcpu, vcpu, events.STATE_PREEMPTED))
        happened += [(cycle + 210_000 * one, events.KVM_ENTRY, 0, vcpu, 0, 0, 0) for one in range(1, 10)]
    with trace_file(scenario_of(), tmp_path / "trace.dat") as sink:
        sink(np.array(happened, events.EVENT))
    command = ["xvfb-run", "-a", "-s", "-screen 0 1200x900x24", "bash", "-c", SCRIPT, "-", "trace.dat", "shot"]
    surroundings = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=surroundings, stderr=subprocess.DEVNULL) as running:
        drawn = 0
        while running.poll() is None:
            with_plots = [
                coloured_lines(shot.read_bytes()) for shot in tmp_path.glob("shot.*.ppm") if "part" not in shot.name
            ]
            drawn = max(with_plots, default=0)
            if drawn >= 20:
                (tmp_path / "shot.enough").touch()
            time.sleep(0.5)
    assert drawn >= 20
