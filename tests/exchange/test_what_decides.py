"""What decides: shell scripts with arrays and redirections, fields that others switch off or go before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ti_tui.exchange.command_line import parse
from ti_tui.exchange.gathering import ImportedField
from ti_tui.exchange.importing import import_settings


def given(text: str) -> dict[str, Any]:
    return {option.name: option.value for option in parse(text).options}


def test_what_the_shell_does_with_the_output_is_no_value() -> None:
    for end in ("2>&1 | tee log.txt", "> log.txt 2>&1", ">>log", "< /dev/null"):
        found = given(f"python train_textual_inversion.py --token_string zkz --max_train_steps 900 {end}")
        assert found == {"token_string": "zkz", "max_train_steps": "900"}, end


def test_the_options_in_an_array_of_bash_are_read() -> None:
    text = """ARGS=(
      --max_train_epochs=4
      # not this: --seed=1
      --train_batch_size=3
    )
    ARGS+=(--seed=7)
    python train_textual_inversion.py --token_string zkz --clip_skip 2 "${ARGS[@]}"
    """
    assert given(text) == {
        "token_string": "zkz", "clip_skip": "2", "max_train_epochs": "4", "train_batch_size": "3", "seed": "7",
    }  # fmt: skip


def test_an_array_that_is_not_here_is_no_value_of_the_option_before_it() -> None:
    command = parse('python train_textual_inversion.py --token_string zkz --clip_skip 2 "${ARGS[@]}"')
    assert {option.name: option.value for option in command.options} == {"token_string": "zkz", "clip_skip": "2"}
    assert any("ARGS" in note for note in command.notes)


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_variable_in_quotes_may_have_a_comment_behind_it(quote: str) -> None:
    text = f"MODEL={quote}/models/my sd.safetensors{quote}   # base model\n"
    text += 'python train_textual_inversion.py --token_string zkz --pretrained_model_name_or_path="$MODEL"'
    assert given(text)["pretrained_model_name_or_path"] == "/models/my sd.safetensors"


def rows(path: Path) -> dict[str, ImportedField]:
    return {row.name.rpartition(": ")[2]: row for row in import_settings(path).rows}


def test_the_dataset_config_goes_before_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text("[[datasets]]\nbatch_size = 4\n[[datasets.subsets]]\nimage_dir = 'x'\n")
    (tmp_path / "t.sh").write_text(
        "python train_textual_inversion.py --token_string zkz --train_batch_size 2 --dataset_config d.toml"
    )
    assert import_settings(tmp_path / "t.sh").fields["training.batch_size"] == 4


@pytest.mark.parametrize(("mode", "limit"), [("norm", 0.1), ("disabled", None), ("value", None)])
def test_clipping_of_a1111_is_on_only_for_the_norm(tmp_path: Path, mode: str, limit: float | None) -> None:
    values = {
        "datetime": "2023-01-01", "model_name": "m", "num_vectors_per_token": 6, "embedding_name": "zkz",
        "learn_rate": "0.005", "steps": 500, "data_root": "photos", "clip_grad_mode": mode, "clip_grad_value": "0.1",
        "template_file": "subject.txt", "training_width": 512, "training_height": 512,
    }  # fmt: skip
    (tmp_path / "settings.json").write_text(json.dumps(values))
    found = import_settings(tmp_path / "settings.json")
    assert found.fields.get("training.max_gradient_norm") == limit
    assert len([row for row in found.rows if row.name == "clip_grad_value"]) == 1


def test_a_concept_that_is_switched_off_is_not_the_photographs(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    values = {
        "__version": 6, "training_method": "EMBEDDING", "model_type": "STABLE_DIFFUSION_15", "base_model_name": "m",
        "learning_rate": 0.002, "embedding_learning_rate": 0.003, "epochs": 20,
        "concepts": [
            {"path": "reg", "enabled": False, "balancing": 9.0},
            {"path": str(tmp_path / "photos"), "enabled": True, "balancing": 5.0, "balancing_strategy": "SAMPLES"},
        ],
        "embedding": {"placeholder": "<zkz>", "token_count": 4, "initial_embedding_text": "woman"},
    }  # fmt: skip
    (tmp_path / "o.json").write_text(json.dumps(values))
    found = import_settings(tmp_path / "o.json")
    assert found.own["photographs"] == str(tmp_path / "photos") and "repeats" not in found.own
    table = rows(tmp_path / "o.json")
    assert table["concepts.0.path"].fate == table["concepts.1.balancing"].fate == "left out"
    assert table["learning_rate"].note == "embedding_learning_rate decides"
