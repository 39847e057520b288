"""`python -m ti_tui.training.try_optimizer`: whether an optimizer takes its arguments.

stdin: the run file's training table as JSON, or a part of it. stdout: a line of JSON, a string with what is wrong,
which is empty if nothing is. Nothing else is loaded than torch and the optimizer.
"""

from __future__ import annotations

import json
import sys

import torch
from torch import nn

from ti_tui import terminal
from ti_tui.run.optimizers import OPTIMIZERS
from ti_tui.run.problems import ProblemsError
from ti_tui.run.recipe import TrainingTable
from ti_tui.training.optimizers import make_optimizer

if __name__ == "__main__":
    table = TrainingTable.model_validate_json(sys.stdin.read(100_000))
    refusal = ""
    # The optimizers of other packages may work on a card only.
    on_card = OPTIMIZERS[table.optimizer.lower()].optional and torch.cuda.is_available()
    try:
        make_optimizer([nn.Parameter(torch.zeros(1, 4, device="cuda" if on_card else "cpu"))], table, 0.001)
    except ProblemsError as error:
        refusal = error.problems[0].message
    terminal.line(json.dumps(refusal))
