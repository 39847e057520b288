"""Settles what is learned: token, initial words, photographs, model, prompts, resolution; each from several fields."""

from __future__ import annotations

import re
from pathlib import Path

from ti_tui.dataset.listing import places
from ti_tui.exchange.gathering import Gathered
from ti_tui.exchange.mapping import NoCounterpart, Part
from ti_tui.exchange.paths_in_files import found_path, is_hub_id
from ti_tui.exchange.values import coerced, shown
from ti_tui.run.file import problem_with

NOT_IN_TOKENS = re.compile(r"[\s\[\]/\\:*?\"<>|,.]")


def token(g: Gathered) -> None:
    """The token, by the file's own field for it, else by the name of what is written."""
    if g.given.token:
        g.set("embedding.token", g.given.token, by="--token")
    for part in ("token", "output name"):
        found = g.first(part)
        if found is None:
            continue
        name = str(found.value)
        if part == "output name":
            name = re.sub(r"\.(safetensors|pt|bin|ckpt)$", "", re.split(r"[/\\]", name)[-1])
        word = NOT_IN_TOKENS.sub("", name)[:40]
        if "embedding.token" in g.fields:
            by = g.setters["embedding.token"]
            told = "the embedding is named after the token" if part == "output name" else f"{by} decides"
            alike = word == g.fields["embedding.token"]
            g.settle(found, "same" if alike else "changed", g.show("embedding.token"), "" if alike else told)
        elif not word or problem_with("embedding.token", word):
            g.settle(found, "left out", note=f"{shown(name)} cannot be a token here: give --token WORD")
        else:
            g.set("embedding.token", word, by=found.name)
            alike = word == found.value
            note = "the token, from the name" if part == "output name" else "without what prompts read otherwise"
            g.settle(found, "same" if alike else "changed", g.show("embedding.token"), "" if alike else note)
    if "embedding.token" not in g.fields:
        g.needs["embedding.token"] = "--token WORD"


def start(g: Gathered) -> None:
    """What the vectors start from: an embedding file before words; the class word."""
    file, words = g.first("initial file"), g.first("words")
    if file is not None:
        if path := found_path(file.value, g.folder):
            g.set("embedding.init", str(path), by=file.name)
            g.settle(file, "changed", g.show("embedding.init"), "a file to start from")
        else:
            g.settle(file, "left out", note="there is no such file here: give --set embedding.init=FILE")
    if words is not None:
        if "embedding.init" in g.fields:
            g.settle(words, "left out", note=f"{g.setters['embedding.init']} decides")
        else:
            g.set("embedding.init", str(words.value), by=words.name)
            g.settle(words, "same" if words.value == words.source.value else "changed", g.show("embedding.init"))
    described = g.first("class word")
    if described is not None:
        known = str(g.fields.get("embedding.token", ""))
        rest = " ".join(word for word in str(described.value).split() if word != known)
        g.own["class_word"] = rest
        g.settle(
            described, "changed", g.show("class_word"), "the name of the image folder; captions go by the template"
        )


def pictures(g: Gathered) -> None:
    """The folder of photographs, its repeats, masks and regularisation images; the model's file."""
    if g.given.images:
        g.own["photographs"] = g.given.images
    named = g.all_of("photographs")
    whole = _common_folder([found_path(found.value, g.folder) for found in named])
    for found in named:
        path = whole or found_path(found.value, g.folder)
        if g.given.images:
            g.settle(found, "changed", g.show("photographs"), "--images decides")
        elif path is None:
            g.settle(found, "left out", note="there is no such folder here: give --images FOLDER")
        elif g.own.get("photographs", str(path)) != str(path):
            g.settle(found, "left out", note="one folder is read; put all into one, as <repeats>_<name> if they differ")
        else:
            g.own["photographs"] = str(path)
            alike = "" if whole is None else "the folder around all of them, whose names say the repeats"
            g.settle(found, "changed" if alike else "same", g.show("photographs"), alike)
    if "photographs" not in g.own:
        g.needs["photographs"] = "--images FOLDER"
    if whole is not None:
        for each in g.all_of("repeats"):
            g.settle(each, "changed", note="the name of the folder says the repeats")
    repeats = g.first("repeats")
    if repeats is not None:
        if 1 <= int(repeats.value) <= 999:
            g.own["repeats"] = str(repeats.value)
            g.settle(repeats, "same", g.show("repeats"))
        else:
            g.settle(repeats, "left out", note="repeats go from 1 to 999")
    around = _common_folder([found_path(found.value, g.folder) for found in g.all_of("regularisation")])
    regularisation = g.first("regularisation")
    if regularisation is not None:
        if path := around or found_path(regularisation.value, g.folder):
            g.set("dataset.regularisation", str(path), by=regularisation.name)
            g.settle(regularisation, "same", g.show("dataset.regularisation"))
        else:
            missing = "there is no such folder here: give --set dataset.regularisation=FOLDER"
            g.settle(regularisation, "left out", note=missing)
    for found in g.all_of("mask folder"):
        g.settle(found, "left out", note="masks are read beside the photographs: a-mask.png for a.jpg")


def _common_folder(paths: list[Path | None]) -> Path | None:
    """The folder around several folders of kohya's, if they are all that it holds of the kind."""
    there = {path for path in paths if path is not None}
    if len(there) < 2 or len({path.parent for path in there}) > 1 or None in paths:
        return None
    parent = next(iter(there)).parent
    try:
        inner = {place.folder for place in places(parent)} - {parent}
    except OSError:
        return None
    return parent if inner == there else None


def model(g: Gathered) -> None:
    """The model: what was given, else the file's, if it is here or a hub id; its VAE, family and clip skip."""
    if g.given.model:
        g.set("model.base", g.given.model, by="--model")
    _weights(g, "model", "--model MODEL")
    _weights(g, "vae", "--set model.vae=FILE")
    if "model.base" not in g.fields:
        g.needs["model.base"] = "--model MODEL"
    for found in g.all_of("family"):
        g.settle(found, "changed", note=found.counterpart.note)
    skip = g.first("clip skip")
    if skip is not None:
        if g.value("family") == "sdxl":
            g.settle(
                skip, "same" if skip.value == 2 else "left out", note="SDXL always reads the layer before the last"
            )
        else:
            try:
                g.set("model.clip_skip", coerced("model.clip_skip", skip.value), by=skip.name)
                alike = str(skip.value) == str(skip.source.value)
                g.settle(
                    skip, "same" if alike else "changed", g.show("model.clip_skip"), "" if alike else "counted from 1"
                )
            except NoCounterpart as error:
                g.settle(skip, "left out", note=str(error))


def _weights(g: Gathered, part: Part, option: str) -> None:
    """A model or VAE that the file names by a path or a hub id."""
    found = g.first(part)
    if found is None:
        return
    name, theirs = found.counterpart.ours, str(found.value)
    if name in g.fields:
        alike = g.fields[name] == theirs
        g.settle(found, "same" if alike else "changed", g.show(name), "" if alike else f"{g.setters[name]} decides")
    elif path := found_path(theirs, g.folder):
        g.set(name, str(path), by=found.name)
        g.settle(found, "same", g.show(name))
    elif part == "model" and is_hub_id(theirs):
        g.set(name, theirs, by=found.name)
        g.settle(found, "same", g.show(name))
    else:
        web = "://" in theirs or is_hub_id(theirs)
        why = "it is on the web: download it and" if web else "there is no such file here:"
        g.settle(found, "left out", note=f"{why} give {option}")


def template(g: Gathered) -> None:
    """The prompts: object, style or captions."""
    flags: tuple[tuple[Part, str], ...] = (("object templates", "object"), ("style templates", "style"))
    for part, word in flags:
        if found := g.first(part):
            g.set("dataset.template", word, by=found.name)
            g.settle(found, "changed", g.show("dataset.template"), "a template by name; its sentences are A1111's")
    found = g.first("template")
    if found is not None:
        if "dataset.template" in g.fields:
            g.settle(found, "left out", note=f"{g.setters['dataset.template']} decides")
            return
        word = str(found.value)
        path = found_path(word, g.folder) if word not in ("object", "style", "captions") else None
        if path is None and word not in ("object", "style", "captions"):
            stem = re.split(r"[/\\]", word)[-1].lower()
            word = "style" if "style" in stem else "captions" if "filewords" in stem else "object"
        g.set("dataset.template", str(path or word), by=found.name)
        alike = str(found.source.value) == g.fields["dataset.template"]
        note = "the caption follows the token: a photo of [name], [filewords]" if word == "captions" else "by name"
        g.settle(found, "same" if alike else "changed", g.show("dataset.template"), "" if alike else note)
    elif "dataset.template" not in g.fields and g.source.complete and g.source.program in ("kohya", "onetrainer"):
        g.assume("captions", "of each image", "dataset.template", "captions")


def resolution(g: Gathered) -> None:
    """The side of the square; of several sizes the first decides."""
    for found in g.all_of("resolution"):
        if "dataset.resolution" not in g.fields:
            g.set("dataset.resolution", found.value, by=found.name)
        alike = str(found.source.value) == str(found.value)
        if found.value != g.fields["dataset.resolution"]:
            g.settle(found, "left out", note=f"{g.setters['dataset.resolution']} decides")
        else:
            note = "" if alike else "the side of the square with that area"
            g.settle(found, "same" if alike else "changed", g.show("dataset.resolution"), note)
