"""How to use the embedding in each program: lines to copy, with the paths of this run and machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ti_tui.embeddings.program_folders import embeddings_folders
from ti_tui.results.outcome import ResultFiles
from ti_tui.results.report.markup import Html, join, tag
from ti_tui.run.folder import RunFolder
from ti_tui.run.history import RunHistory
from ti_tui.run.recipe import RunFile

A1111, COMFY = "~/stable-diffusion-webui/embeddings", "~/ComfyUI/models/embeddings"
"""The default folders, used if none is found."""


def usage_section(files: ResultFiles, folder: RunFolder, recipe: RunFile, history: RunHistory) -> Html:
    """What to do with the file, for each program."""
    if files.use is None:
        return tag("p", "There is no embedding file yet; the first checkpoint writes one.")
    token, file = recipe.embedding.token, files.use
    web = _folder_of(("webui", "forge", "automatic1111"), A1111)
    comfy = _folder_of(("comfyui",), COMFY)
    installed = dict.fromkeys(row.installed for row in history.checkpoints if row.installed)
    there = tag("p", "The run installed it as ", join([tag("code", place) for place in installed], ", "), ".")
    return tag(
        "div",
        tag("p", "The file to take: ", tag("code", file), _which(files), class_="says"),
        there if installed else None,
        _program(
            "AUTOMATIC1111, Forge",
            _install(file, web, token),
            ["In a prompt, the file name is the token: ", tag("code", f"a photo of {token}"), ". ", _REFRESH],
        ),
        _program(
            "ComfyUI",
            _install(file, comfy, token),
            ["In a prompt: ", tag("code", f"a photo of embedding:{token}"), ", or with a weight ",
             tag("code", f"(embedding:{token}:1.1)"), "."],
        ),
        _program(
            "InvokeAI",
            str(file),
            ["Models, Add Model, a local path: this file. In a prompt: ", tag("code", f"a photo of <{file.stem}>"),
             " (its name in InvokeAI)."],
        ),
        _program("diffusers", diffusers_lines(file, folder, recipe, history.family), [], class_="lines"),
        class_="usage",
    )  # fmt: skip


def diffusers_lines(file: Path, folder: RunFolder, recipe: RunFile, family: str) -> str:
    """A Python program that draws with the embedding."""
    token, base = recipe.embedding.token, recipe.model.base
    kind = "StableDiffusionXLPipeline" if family == "sdxl" else "StableDiffusionPipeline"
    path = folder.path(base)
    single = path.suffix.lower() in {".safetensors", ".ckpt"}
    # If it is not a path on this machine, it is a hub id.
    model = str(path) if single or path.exists() or base.startswith(("~", "/")) else base
    lines = [
        f"from diffusers import {kind}",
        "",
        f"pipe = {kind}.{'from_single_file' if single else 'from_pretrained'}({model!r})",
    ]
    if family == "sdxl":
        library, call = "from safetensors.torch import load_file", f"load_file({str(file)!r})"
        if file.suffix != ".safetensors":
            library, call = "import torch", f"torch.load({str(file)!r}, weights_only=True)"
        lines = [library, *lines]
        lines += [
            f"vectors = {call}",
            f'pipe.load_textual_inversion(vectors["clip_l"], token={token!r})',
            f'pipe.load_textual_inversion(vectors["clip_g"], token={token!r},',
            "                             text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)",
        ]
    else:
        lines.append(f"pipe.load_textual_inversion({str(file)!r}, token={token!r})")
    prompt, picture = f"a photo of {token}", f"{token}.png"
    # In diffusers clip_skip counts the skipped layers.
    skip = f", clip_skip={recipe.model.clip_skip - 1}" if recipe.model.clip_skip > 1 else ""
    lines.append(f"pipe({prompt!r}{skip}).images[0].save({picture!r})")
    return "\n".join(lines)


_REFRESH = "It is offered under Textual Inversion after a refresh; no restart is needed."


def _which(files: ResultFiles) -> str:
    if files.use == files.best and files.final is not None:
        return f", the best checkpoint by its evaluation. The last one is {files.final.name}."
    if files.use == files.best:
        return ", the best checkpoint so far."
    return ", the vectors after the last step." if files.use == files.final else ", the last checkpoint."


def _install(file: Path, folder: str, token: str) -> str:
    where = folder if folder.startswith("~") else quote(folder)
    return f"ti-tui embeddings install {quote(str(file))} {where} --name {quote(token)}"


def _folder_of(programs: Sequence[str], otherwise: str) -> str:
    """The embeddings folder of a program on this machine, else its default."""
    found = (str(folder) for folder in embeddings_folders())
    return next((place for place in found if any(name in place.lower() for name in programs)), otherwise)


def _program(name: str, lines: str, then: list[object], **attributes: object) -> Html:
    after = tag("p", then) if then else None
    return tag("section", tag("h3", name), tag("pre", tag("code", lines)), after, **attributes)
