"""Changes of the learning rates in a run that trains: anchored at the step where they are taken, so that it repeats.

The run file always holds the rates that were trained, then those ahead: a new run from it takes the same steps.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from pydantic import ValidationError

from ti_tui.run import requests
from ti_tui.run.file import load, save
from ti_tui.run.problems import ProblemsError
from ti_tui.run.recipe import SchemeTable
from ti_tui.run.requests import Request
from ti_tui.run.scheme import Scheme, SchemeError, format_scheme
from ti_tui.training.checkpoints import CheckpointState
from ti_tui.training.reporter import Reporter
from ti_tui.training.session import Session


def take_change(session: Session, request: Request, report: Reporter) -> bool:
    """Use the requested rates from the session's step on, and write them into the run file. In the main process only.

    Returns whether they changed; what cannot be used is reported as a warning. Raises CannotWrite; the next trainer
    then takes the request.
    """
    trained, step, path = session.plan.scheme, session.step, session.checked.folder.file
    try:
        run = load(path)
        written = run.scheme.scheme()
        if request.segments:
            scheme = trained.steered(request.step, request.segments, step)
        elif written.total_steps > step:
            scheme = written.after(trained, step)
        else:
            report.warn(f"the changed scheme ends at step {written.total_steps}, already passed: the run ends here")
            scheme = _ended(trained, step)
        changed = run.with_scheme(scheme)
    except (SchemeError, ProblemsError, ValueError) as error:
        told = error.problems[0] if isinstance(error, ProblemsError) else getattr(error, "message", str(error))
        report.warn(f"the changed scheme is not used: {told}")
        requests.finish(request)
        return False
    if scheme != written:
        save(changed, path)
    _use(session, scheme)
    requests.finish(request)
    report.event(
        "request",
        request="scheme",
        message=f"new scheme: {scheme.total_steps} steps in all",
        step=step,
        total_steps=scheme.total_steps,
    )
    report.position(step, scheme.total_steps)
    return True


def read_again(session: Session) -> None:
    """Take over the scheme that the main process has written into the run file, in the others of a run."""
    with contextlib.suppress(ProblemsError):
        scheme = load(session.checked.folder.file).scheme.scheme()
        if scheme != session.plan.scheme:
            _use(session, scheme)


def keep_trained(session: Session, state: CheckpointState, report: Reporter, *, read_only: bool) -> None:
    """After a resume from `state`: keep the rates it was trained with, if [scheme] was changed by hand since."""
    scheme = session.plan.scheme
    if not state.scheme or scheme.total_steps < state.step:
        return
    try:
        trained = SchemeTable.model_validate(state.scheme).scheme()
        whole = scheme.after(trained, state.step)
    except (ValidationError, SchemeError, ValueError):
        # Not a state of ours: only what the run file says is known.
        return
    if whole == scheme:
        return
    _use(session, whole)
    if session.processes.is_main and not read_only:
        path = session.checked.folder.file
        save(load(path).with_scheme(whole), path)
        report.warn(
            f"[scheme] was changed: the new rates hold from step {state.step} on; run.toml keeps those before it too"
        )


def _use(session: Session, scheme: Scheme) -> None:
    session.plan = replace(session.plan, scheme=scheme)
    session.metadata["scheme"] = format_scheme(scheme.segments)


def _ended(scheme: Scheme, step: int) -> Scheme:
    """`scheme` without what comes after its first `step` steps."""
    ahead = scheme.segments_after(step - 1)[:1]
    return scheme.continued(step - 1, [replace(ahead[0], steps=1)]).after(scheme, step)
