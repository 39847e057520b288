"""Writes a run for TensorBoard: scalars, samples and texts below RUN/log/tensorboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

from ti_tui.errors import UserError
from ti_tui.run.events import Event, step_of
from ti_tui.run.folder import RunFolder
from ti_tui.trackers.values import images_of, scalars_of, texts_of

FOLDER = "tensorboard"


class TensorBoard:
    """A tracker that writes event files. Raises UserError if the package is missing."""

    name = "tensorboard"

    def __init__(self, folder: RunFolder) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise UserError(
                "the package tensorboard is not installed", remedy="Install it with `pip install tensorboard`."
            ) from None
        self._folder = folder
        place = folder.events.parent / FOLDER
        # Derived from the log: what an earlier process wrote is written again.
        shutil.rmtree(place, ignore_errors=True)
        self._event, self._summary = event_pb2.Event, summary_pb2
        self._tensor, self._types, self._session = tensor_pb2.TensorProto, types_pb2, event_pb2.SessionLog
        self._writer = EventFileWriter(str(place))

    def back_to(self, step: int) -> None:
        # TensorBoard then drops what it has of this step and later.
        log = self._session(status=self._session.START)
        self._writer.add_event(self._event(step=step + 1, session_log=log))

    def add(self, event: Event) -> None:
        for value in self._values(event):
            summary = self._summary.Summary(value=[value])
            self._writer.add_event(self._event(wall_time=event.t, step=step_of(event) or 0, summary=summary))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _values(self, event: Event) -> Iterator[Any]:
        value = self._summary.Summary.Value
        for tag, number in scalars_of(event).items():
            yield value(tag=tag, simple_value=number)
        for tag, text in texts_of(event).items():
            plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
            tensor = self._tensor(dtype=self._types.DT_STRING, string_val=[text.encode()])
            tensor.tensor_shape.dim.add(size=1)
            yield value(tag=tag, tensor=tensor, metadata=self._summary.SummaryMetadata(plugin_data=plugin))
        for tag, content, (width, height) in images_of(self._folder, event):
            image = self._summary.Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
            yield value(tag=tag, image=image)
