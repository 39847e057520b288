"""Writes what a run keeps: exact checkpoints, the embedding of each, the best one, the final files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from ti_tui.embeddings import run_files
from ti_tui.embeddings.health import Health
from ti_tui.embeddings.install import install
from ti_tui.embeddings.vocabulary import PIECE_ROWS, Vocabulary
from ti_tui.errors import UserError
from ti_tui.run.verdicts import best_of
from ti_tui.training import checkpoints
from ti_tui.training.reporter import Reporter
from ti_tui.training.session import Session

NEAREST = 3
"""Nearest words reported for each vector."""


class CheckpointWriter:
    """Writes a session's checkpoints and embedding files, and reports them. For the main process of a run only.

    best: the step of the best checkpoint so far, by its evaluation.
    """

    def __init__(self, session: Session, report: Reporter) -> None:
        self.best: int | None = None
        self._session = session
        self._report = report
        self._vocabularies: list[Vocabulary] = []

    def write(self) -> None:
        """Write the exact state first, which must not be lost, then the embedding files. Raises UserError."""
        session, run, folder = self._session, self._session.checked.run, self._session.checked.folder
        self._report.check_place()
        # A run that resumes from here never writes the events of earlier steps again.
        self._report.flush()
        checkpoints.save_state(folder, session.state())
        run_files.export(folder, session.embedding(), session.step, run.save.formats)
        self._mark_best()
        self._report_checkpoint()

    def _report_checkpoint(self) -> None:
        session, checked = self._session, self._session.checked
        evaluated = session.evaluator.history if session.evaluator is not None else []
        values = run_files.checkpoint_event(
            checked.folder,
            checked.run,
            session.step,
            rows=[_array(row) for row in session.rows],
            loss=session.progress.loss,
            eval_loss=evaluated[-1].loss if evaluated else None,
            best=self.best,
        )
        self._report.event("checkpoint", **values, health=self._health())

    def write_if_new(self) -> None:
        """Write a checkpoint unless the current step has one, so that nothing is lost however the run ends."""
        if self._session.step not in (0, *self._session.checked.folder.checkpoints()):
            self.write()

    def drop_old(self) -> None:
        """Delete all but the last `save.keep` checkpoints and the best."""
        run, folder = self._session.checked.run, self._session.checked.folder
        run_files.drop_old(folder, run.save.keep, run.embedding.token, best=self.best)

    def drop(self, step: int) -> None:
        """Delete one checkpoint, which is then not the best either."""
        run_files.drop(self._session.checked.folder, step, self._session.checked.run.embedding.token)
        self._mark_best()

    def drop_later(self) -> None:
        """Delete the checkpoints of undone steps."""
        run, folder = self._session.checked.run, self._session.checked.folder
        run_files.drop_after(folder, self._session.step, run.embedding.token)
        self.best = None

    def reconcile(self) -> None:
        """Make what a kill or a full disk left undone after the last checkpoint (see `run_files.reconcile`)."""

        def report(best: int | None) -> None:
            self.best = best
            self._report_checkpoint()

        self.best = run_files.reconcile(self._session.checked.folder, self._session.checked.run, report)
        self.drop_old()

    def finish(self) -> None:
        """Write the final embedding files, and install a copy if `save.install_to` is set."""
        session, run, folder = self._session, self._session.checked.run, self._session.checked.folder
        paths = run_files.export(folder, session.embedding(), None, run.save.formats)
        if not run.save.install_to:
            return
        if session.diverged():
            self._report.warn("not installed: the vectors have diverged; an earlier checkpoint may be good")
            return
        try:
            target = install(paths[0], folder.path(run.save.install_to), name=run.embedding.token)
        except UserError as error:
            self._report.warn(f"not installed: {error}")
            return
        self._report.event(
            "checkpoint", step=session.step, files=[], installed=str(target), loss=session.progress.loss, norms=[]
        )

    def _mark_best(self) -> None:
        """Copy the best checkpoint's embedding to `<token>-best`."""
        run, folder = self._session.checked.run, self._session.checked.folder
        if self._session.evaluator is None:
            return
        best = best_of(self._session.evaluator.history, folder.checkpoints())
        if best is not None and best != self.best:
            run_files.keep_best(folder, run.embedding.token, best, run.save.formats)
            self.best = best

    def _health(self) -> list[dict[str, Any]]:
        """The health of each text encoder's vectors, with the nearest words of each vector."""
        session = self._session
        if not self._vocabularies:
            # The token table stays on its device; it is read piece by piece.
            tables = [encoder.get_input_embeddings().weight for encoder in session.model.text.encoders]
            self._vocabularies = [Vocabulary(partial(_pieces, table)) for table in tables]
        starts = session.evaluator.initial if session.evaluator is not None else [None] * len(session.rows)
        found = []
        for row, start, vocabulary, tokenizer in zip(
            session.rows, starts, self._vocabularies, session.checked.tokenizers, strict=True
        ):
            rows = _array(row)
            health = Health.of(rows, starts=None if start is None else _array(start), vocabulary=vocabulary)
            near = vocabulary.nearest(rows, tokenizer.text_of, NEAREST)
            words = [[f"{one.word} {one.cosine:.2f}" for one in each] for each in near]
            found.append({**health.as_values(), "nearest": words})
        return found


def _pieces(table: Tensor) -> Iterator[np.ndarray]:
    for piece in table.detach().split(PIECE_ROWS):
        yield _array(piece)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().float().cpu().numpy()
    return array
