"""Commands are real processes here, but forked ones: most tests are about what a command does, not about its start."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def forked(forked_processes: None) -> None:
    """The exceptions use the fixture `new_processes`."""
