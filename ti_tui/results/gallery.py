"""The images that a run keeps from comparisons, and their scores. No torch.

`ti-tui compare` draws and scores only what is missing here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ti_tui import atomic, bounded
from ti_tui.dataset.templates import without_name
from ti_tui.embeddings.files import READABLE
from ti_tui.errors import UserError
from ti_tui.jobs.clip_model import Scores
from ti_tui.jobs.comparing import ToScore
from ti_tui.results.comparison import Comparison
from ti_tui.run.folder import RunFolder, step_name
from ti_tui.run.hashes import file_hash, weights_hash
from ti_tui.run.recipe import RunFile
from ti_tui.run.sample_prompts import SamplePrompt, format_sample_prompt, parse_sample_prompt
from ti_tui.setup.check import Checked

MOST_REFERENCES = 64
"""The largest number of training images that samples are compared with; of more, a selection is evenly spread."""
NAME_LETTERS = 40
_KOHYA_FOLDER = re.compile(r"\d+_\S+\s+(.+)")


class Gallery:
    """The images of one prompt at several checkpoints, RUN/sample/compare/PROMPT/step00000100.png.

    drawn.json beside them records what each was made of: an image is reused only while that is the same.

    line, prompt: the prompt as given, and completed with the run's size and seed.
    """

    def __init__(self, folder: RunFolder, run: RunFile, prompt: str) -> None:
        """prompt: in kohya's notation. Raises SamplePromptError."""
        parsed = parse_sample_prompt(prompt)
        self.line = prompt.strip()
        self.prompt = format_sample_prompt(_settled(parsed, run))
        letters = re.sub(r"[^a-z0-9]+", "-", parsed.text.replace("[name]", run.embedding.token).lower()).strip("-")
        mark = hashlib.sha256(self.prompt.encode()).hexdigest()[:8]
        self.folder = compare_folder(folder) / f"{letters[:NAME_LETTERS].rstrip('-') or 'prompt'}-{mark}"
        self._made_of = _read_table(self._file).get("made_of", {})

    @property
    def _file(self) -> Path:
        return self.folder / "drawn.json"

    def picture(self, step: int) -> Path:
        """The file of the image at `step`, which may not exist yet."""
        return self.folder / f"{step_name(step)}.png"

    def holds(self, step: int, made_of: str) -> bool:
        """Whether that image exists and was made of `made_of`."""
        known = self._made_of.get(str(step)) if isinstance(self._made_of, dict) else None
        return known == made_of and self.picture(step).is_file()

    def note(self, step: int, made_of: str) -> None:
        """Record what the image at `step` was made of. Raises CannotWrite."""
        kept = self._made_of if isinstance(self._made_of, dict) else {}
        self._made_of = {**kept, str(step): made_of}
        atomic.write_json(self._file, {"prompt": self.prompt, "made_of": self._made_of})


class ScoreBook:
    """RUN/sample/compare/scores.json: scores by a hash of everything they depend on. Never raises for its content.

    among: likeness of the training images among themselves, None if unknown.
    """

    def __init__(self, folder: RunFolder, judge: Path, references: Sequence[Path]) -> None:
        """judge: the folder of the CLIP model."""
        self._file = compare_folder(folder) / "scores.json"
        self._scores: dict[str, Any] = _read_table(self._file)
        seen = "".join(sorted(file_hash(path) for path in references))
        self._several = len(references) > 1
        self._base = f"{weights_hash(judge)}|{hashlib.sha256(seen.encode()).hexdigest()}"

    @property
    def among(self) -> float | None:
        found = self._scores.get(self._key("among"))
        return found if isinstance(found, float) else None

    @property
    def knows_references(self) -> bool:
        """Whether `among` is known, or there is only one training image and so nothing to compare."""
        return not self._several or self.among is not None

    def put_among(self, likeness: float) -> None:
        self._scores[self._key("among")] = likeness

    def get(self, picture: ToScore) -> Scores | None:
        """The scores of an image as it is now; None if it has none or cannot be read."""
        try:
            found = self._scores.get(self._key(picture.words, file_hash(picture.file)))
        except OSError:
            return None
        match found:
            case [float() as likeness, (float() | None) as following]:
                return Scores(likeness, following)
        return None

    def put(self, picture: ToScore, scores: Scores) -> None:
        key = self._key(picture.words, file_hash(picture.file))
        self._scores[key] = [
            round(scores.likeness, 6),
            None if scores.following is None else round(scores.following, 6),
        ]

    def save(self) -> None:
        """Raises CannotWrite."""
        atomic.write_json(self._file, self._scores)

    def _key(self, *parts: str) -> str:
        return hashlib.sha256("|".join((self._base, *parts)).encode()).hexdigest()[:32]


def compare_folder(folder: RunFolder) -> Path:
    """Where comparisons of a run are kept."""
    return folder.samples / "compare"


def made_of(checked: Checked, step: int) -> str:
    """A hash of everything besides the prompt that an image at `step` depends on; at 0 of the initial vectors.

    Raises OSError if the checkpoint is gone.
    """
    run, facts, folder = checked.run, checked.facts, checked.folder
    assert facts is not None
    vae = weights_hash(folder.path(run.model.vae)) if run.model.vae else ""
    model = [weights_hash(facts.path), vae, run.model.clip_skip, run.model.prediction]
    if step:
        vectors: list[Any] = [file_hash(folder.state(step) / "vectors.safetensors")]
    else:
        start = run.embedding.model_dump(include={"init", "start", "vectors"})
        content = [] if checked.init is None else [array.tobytes().hex() for array in checked.init.in_order()]
        vectors = [start, run.training.seed, *content]
    return hashlib.sha256(json.dumps([model, vectors]).encode()).hexdigest()[:16]


def to_judge(comparison: Comparison, run: RunFile) -> dict[tuple[str, int], ToScore]:
    """The images of a comparison with the words that CLIP compares them with, by prompt and step."""
    token, word = run.embedding.token, subject_word(run)
    words = {prompt: without_name(_text_of(prompt), token, word) for prompt in comparison.prompts}
    return {key: ToScore(path, words[key[0]]) for key, path in comparison.pictures.items()}


def mean_scores(found: Iterable[Scores | None]) -> Scores | None:
    """The mean of the known scores; None without any."""
    known = [scores for scores in found if scores is not None]
    following = [scores.following for scores in known if scores.following is not None]
    if not known:
        return None
    likeness = sum(scores.likeness for scores in known) / len(known)
    return Scores(likeness, sum(following) / len(following) if following else None)


def spread_out(references: Sequence[Path]) -> list[Path]:
    """At most MOST_REFERENCES of them, evenly spread."""
    count = len(references)
    if count <= MOST_REFERENCES:
        return list(references)
    return [references[index * count // MOST_REFERENCES] for index in range(MOST_REFERENCES)]


def subject_word(run: RunFile) -> str:
    """The model's own word for the subject: the initial words, else the class word in kohya's folder name, else ""."""
    init = run.embedding.init.strip()
    if init and not init.lower().endswith(READABLE):
        return init
    named = _KOHYA_FOLDER.fullmatch(Path(run.dataset.images).name)
    return named[1].strip() if named else ""


def _settled(prompt: SamplePrompt, run: RunFile) -> SamplePrompt:
    """The prompt, completed with the run's size and seed."""
    side = run.dataset.resolution
    return replace(
        prompt,
        width=prompt.width or side,
        height=prompt.height or side,
        seed=run.training.seed if prompt.seed is None else prompt.seed,
    )


def _text_of(line: str) -> str:
    try:
        return parse_sample_prompt(line).text
    except UserError:
        # A log may hold anything.
        return line


def _read_table(path: Path) -> dict[str, Any]:
    try:
        values = bounded.read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
