"""A few interruptions by chance; all of them are a command, `python -m tools.crash_points`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to build the shim with")
def test_a_sample_of_interruptions_leaves_nothing_lost_or_left_over() -> None:
    command = [sys.executable, "-m", "tools.crash_points", "--sample", "2", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["workload"] for one in found] == ["init", "prepare", "train", "captions", "settings"]
    assert all(one["cases"] == 2 and one["operations"] > 10 for one in found)
