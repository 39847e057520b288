"""Training on all cores: one process a core, gradients averaged, every parameter in one flat tensor.

Small models gain little from threads inside an operation; two processes of one thread are nearly twice as fast.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """This process's place among those that train together. batches: what every batch is divided by, to be quick."""

    rank: int
    size: int
    device: torch.device
    batches: int = 1

    def average(self, flat: Tensor) -> None:
        """Replace `flat` by its mean over the team."""
        if self.size > 1:
            torch.distributed.all_reduce(flat)
            flat.div_(self.size)

    def gather(self, mine: Tensor) -> Tensor:
        """The rows of all members, one after the other; all must have as many."""
        if self.size == 1:
            return mine
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    def share(self, count: int) -> range:
        """The indices of `count` that this member works on; the team's shares are equally long."""
        each = math.ceil(count / self.size)
        return range(self.rank * each, (self.rank + 1) * each)

    def batch(self, count: int, least: int) -> int:
        """This member's part of a batch of `count`; `least` for very large teams."""
        return max(count // self.size, least) // self.batches or 1

    def say(self, text: str) -> None:
        """One line, from the first member only."""
        if self.rank == 0:
            print(text, flush=True)


def run_team(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(team, *arguments)` on the GPU, or in one process a core. Raises what a member raises."""
    if torch.cuda.is_available():
        work(Team(0, 1, torch.device("cuda")), *arguments)
        return
    size = min(os.cpu_count() or 1, 8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A fork need not import torch again; nothing has been computed here that its threads could have locked.
    start = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(_member, (size, port, work, arguments), nprocs=size, start_method=start)


def _member(rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    work(Team(rank, size, torch.device("cpu")), *arguments)
    if size > 1:
        torch.distributed.destroy_process_group()


class Flat:
    """A module whose parameters and gradients are views into two flat tensors, with float32 masters.

    One addition, one norm and one optimizer update for all of them. dtype: of the parameters that compute.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, rate: float = 1.0) -> None:
        self.module, self.rate = module, rate
        parameters = list(module.parameters())
        device = parameters[0].device
        count = sum(parameter.numel() for parameter in parameters)
        self.master = torch.cat([parameter.detach().float().flatten() for parameter in parameters]).requires_grad_()
        self._flat = torch.empty(count, dtype=dtype, device=device)
        self._gradient = torch.zeros(count, dtype=dtype, device=device)
        module.to(dtype)
        at = 0
        for parameter in parameters:
            end = at + parameter.numel()
            parameter.data = self._flat[at:end].view_as(parameter)
            parameter.grad = self._gradient[at:end].view_as(parameter)
            at = end
        self.average = self.master.detach().clone()
        self.show(self.master)

    def show(self, values: Tensor) -> None:
        """Let the module compute with `values` (the masters, or their moving average)."""
        with torch.no_grad():
            self._flat.copy_(values)

    def take_gradient(self, team: Team) -> None:
        """The team's mean gradient into the masters, and zeros into the module's."""
        gradient = self._gradient.to(torch.float32, copy=True)
        team.average(gradient)
        self.master.grad = gradient
        self._gradient.zero_()


@dataclass
class Optimizer:
    """AdamW on flat modules: warm-up, cosine to zero, gradients of length 1 at most, moving averages."""

    flats: list[Flat]
    rate: float
    steps: int
    warmup: int = 100
    most_average: float = 0.999
    done: int = 0
    _adam: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        groups = [{"params": [flat.master], "scale": flat.rate} for flat in self.flats]
        self._adam = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), weight_decay=1e-3)

    def step(self, team: Team) -> None:
        """One update from the gradients that have gathered in the modules."""
        for flat in self.flats:
            flat.take_gradient(team)
        torch.nn.utils.clip_grad_norm_([flat.master for flat in self.flats], 1.0)
        warm = min(1.0, (self.done + 1) / self.warmup)
        now = self.rate * warm * (1 + math.cos(math.pi * self.done / self.steps)) / 2
        for group in self._adam.param_groups:
            group["lr"] = now * group["scale"]
        self._adam.step()
        self.done += 1
        keep = min(self.most_average, (self.done + 1) / (self.done + 20))
        with torch.no_grad():
            for flat in self.flats:
                flat.average.lerp_(flat.master, 1 - keep)
                flat.show(flat.master)

    def finish(self) -> None:
        """Leave the averages in the modules, in float32."""
        for flat in self.flats:
            flat.module.float()
            at = 0
            for parameter in flat.module.parameters():
                end = at + parameter.numel()
                parameter.data = flat.average[at:end].view_as(parameter).clone()
                parameter.grad = None
                at = end


def counted(name: str, steps: int, team: Team, every: int = 200) -> Iterator[tuple[int, Callable[[float], None]]]:
    """Count steps; each gets a function that is told its loss, whose mean is said now and then."""
    started, losses = time.perf_counter(), []
    for step in range(1, steps + 1):
        yield step, losses.append
        if step % every == 0 or step == steps:
            seconds = time.perf_counter() - started
            mean = sum(losses[-every:]) / max(len(losses[-every:]), 1)
            team.say(f"{name} {step}/{steps}  loss {mean:.4f}  {seconds:.0f} s  {seconds / step * 1000:.0f} ms/step")
