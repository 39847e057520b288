"""A captioner's folder, found and looked into: what is wrong with it is said in words before anything is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.tiny_blip import KINDS, old_layout, shared
from ti_tui import settings
from ti_tui.captions.models import (
    FIRST_CHOICE,
    CaptionerError,
    check_captioner,
    find_captioner,
)

Factory = pytest.TempPathFactory


@pytest.fixture
def blip(tmp_path_factory: Factory, tmp_path: Path) -> Path:
    """A copy of the tiny BLIP that a test may damage."""
    return Path(shutil.copytree(shared(tmp_path_factory), tmp_path / "blip"))


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No captioner of the machine's owner is found."""
    monkeypatch.delenv("TI_TUI_CAPTIONER", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def refused(folder: Path, *says: str) -> None:
    """A message of one to three lines that says these words."""
    with pytest.raises(CaptionerError) as error:
        check_captioner(folder)
    for words in says:
        assert words in str(error.value), error.value
    assert 1 <= len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_known_by_its_folder(tmp_path_factory: Factory, kind: str) -> None:
    model = check_captioner(shared(tmp_path_factory, kind))
    assert model.safetensors and model.describe().endswith("million parameters")
    assert model.kind.name.lower().replace("-", "") == kind


def test_the_layout_of_the_hub_is_known(tmp_path_factory: Factory, tmp_path: Path) -> None:
    model = check_captioner(old_layout(shared(tmp_path_factory), tmp_path / "hub-blip"))
    assert model.model_type == "blip" and not model.safetensors


def test_looking_loads_no_torch(tmp_path_factory: Factory) -> None:
    code = (
        "import sys; from pathlib import Path; from ti_tui.captions import models; import ti_tui.jobs.captioning;"
        f"models.check_captioner(Path({str(shared(tmp_path_factory))!r}));"
        "print(*{'torch', 'transformers', 'textual', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:keep]) and None


def put(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


def edit(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove("tokenizer.json"), ["lacks tokenizer.json or vocab.txt", "It needs config.json, model.safetensors or"]),
        (remove("model.safetensors"), ["lacks model.safetensors or pytorch_model.bin"]),
        (remove("processor_config.json", "tokenizer.json"), ["lacks preprocessor_config.json", "tokenizer.json"]),
        (remove("config.json"), ["lacks config.json"]),
        (cut("model.safetensors", 60_000), ["is truncated", "Copy or download it again"]),
        (cut("model.safetensors", 0), ["is empty (0 bytes)"]),
        (put("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid"), ["model.safetensors is"]),
        (put("config.json", "{"), ["config.json is damaged", "Copy the whole folder again"]),
        (put("config.json", "[]"), ["config.json is damaged"]),
        (put("tokenizer.json", "{}"), ["tokenizer.json cannot be read"]),
        (edit(model_type="llava"), ["is a 'llava' model", "BLIP (blip), BLIP-2 (blip-2), GIT (git), Florence-2"]),
        (edit(model_type=None), ["does not say in config.json what model it is"]),
        (edit(model_type="git"), ["is not made for captions"]),
        (edit(model_type="git", architectures=None), ["not those of a GIT captioner"]),
        (edit(architectures=["BlipForQuestionAnswering"]), ["is not made for captions", "BlipForQuestionAnswering"]),
        (edit(auto_map={"AutoModel": "code.Model"}), ["which is never run", FIRST_CHOICE]),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(blip: Path, damage: Callable[[Path], None], says: list[str]) -> None:
    damage(blip)
    refused(blip, *says)


def test_a_tokenizer_without_its_vocabulary_is_refused(blip: Path) -> None:
    tokenizer = json.loads((blip / "tokenizer.json").read_text())
    vocabulary = dict(tokenizer["model"]["vocab"])
    tokenizer["model"]["vocab"] = {token: vocabulary[token] for token in list(vocabulary)[:5]}
    (blip / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(blip, "has lost its vocabulary", "it knows 5 tokens")
    tokenizer["model"]["vocab"] = {("zzz" if token == "person" else token): at for token, at in vocabulary.items()}
    tokenizer["model"]["vocab"] = {
        token: at for token, at in tokenizer["model"]["vocab"].items() if not token.startswith("##")
    } | {f"word{number}": 2000 + number for number in range(1000)}
    (blip / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused(blip, "has lost its vocabulary", "it does not know person")


def test_a_vocabulary_file_is_looked_into(tmp_path_factory: Factory, tmp_path: Path) -> None:
    folder = old_layout(shared(tmp_path_factory), tmp_path / "hub-blip")
    (folder / "vocab.txt").write_text("[UNK]\n[CLS]\n")
    refused(folder, "it knows 2 tokens", "with tokenizer.json and vocab.txt")


def test_a1111s_file_is_another_format(blip: Path, tmp_path: Path) -> None:
    file = tmp_path / "model_base_caption_capfilt_large.pth"
    file.write_bytes(b"\x80\x02")
    refused(file, "Salesforce's own code", "A1111", FIRST_CHOICE, "hf download", "rsync")
    folder = tmp_path / "BLIP"
    folder.mkdir()
    file.rename(folder / file.name)
    refused(folder, "Salesforce's own code", "scp")
    # The same under a better name.
    from safetensors.numpy import load_file, save_file

    weights = load_file(blip / "model.safetensors")
    renamed = {name.replace("vision_model.", "visual_encoder."): value for name, value in weights.items()}
    save_file(renamed, blip / "model.safetensors")
    refused(blip, "Salesforce's own code")


def test_weights_that_hold_code_are_not_opened(tmp_path_factory: Factory, tmp_path: Path) -> None:
    import torch

    folder = old_layout(shared(tmp_path_factory), tmp_path / "hub-blip")
    torch.save({"weight": torch.zeros(2), "more": subprocess.run}, folder / "pytorch_model.bin")
    refused(folder, "contains code", "is not opened")


def test_shards_must_all_be_there(blip: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (blip / "model.safetensors.index.json").write_text(json.dumps(index))
    (blip / "model.safetensors").rename(blip / "model-00001-of-00002.safetensors")
    refused(blip, "lacks model-00002-of-00002.safetensors")


def test_other_folders_and_files_are_told_apart(blip: Path, tmp_path: Path) -> None:
    refused(blip.parent, "is not a captioner", f"Did you mean {blip}?")
    refused(blip / "config.json", "is one file of a captioner", f"Give its folder: {blip}")
    refused(tmp_path / "nowhere", "there is no captioner at")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "contains no captioner", "hf download")
    (empty / "model_index.json").write_text("{}")
    refused(empty, "is a model to train on")


def configure(folder: Path) -> None:
    file = settings.config_folder() / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f'captioner = "{folder}"\n')


def test_the_captioner_given_comes_before_the_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name for name in ("given", "environment", "configured")]
    for folder in folders:
        folder.mkdir()
    configure(folders[2])
    assert settings.load_settings() == (settings.Settings(captioner=str(folders[2])), [])
    assert find_captioner() == folders[2]
    monkeypatch.setenv("TI_TUI_CAPTIONER", str(folders[1]))
    assert find_captioner() == folders[1]
    assert find_captioner(str(folders[0])) == folders[0]


def test_a_captioner_that_is_set_and_gone_is_said_with_its_place(tmp_path: Path) -> None:
    configure(tmp_path / "gone")
    with pytest.raises(CaptionerError, match=r"config.toml: captioner: there is no captioner at .*gone"):
        find_captioner()


def test_the_hubs_cache_is_looked_into_last_and_only_whole_copies_count(blip: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="no captioner was found"):
        find_captioner()
    repository = tmp_path / "hub" / f"models--{FIRST_CHOICE.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    shutil.copytree(blip, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert find_captioner() == find_captioner(FIRST_CHOICE) == snapshot
    assert check_captioner(repository).path == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CaptionerError, match="no captioner was found"):
        find_captioner()
    with pytest.raises(CaptionerError, match="no such model in the Hugging Face cache"):
        find_captioner(FIRST_CHOICE)


def test_a_wrong_setting_is_said() -> None:
    file = settings.config_folder() / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("captioner = 3\n")
    assert "captioner: 3 cannot be used" in settings.load_settings()[1][0]
