from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ctscribe.config import bundled
from ctscribe.errors import CheckpointError, ConfigError, KernelError
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM, load_llm
from ctscribe.ops import backend
from tests.model.tiny import save, stock_mamba, tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llm"), stock_mamba())


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return load_llm(folder)


def test_loads_frozen_on_our_ops_with_the_files_weights(llm: LLM) -> None:
    assert llm.path_name == "ctscribe: selective scan without CUDA kernels"
    assert llm.width == 24
    assert not llm.model.training
    assert not any(p.requires_grad for p in llm.model.parameters())
    ids = torch.arange(2, 30)[None]
    wanted = stock_mamba()(ids, use_cache=False).logits
    torch.testing.assert_close(llm.model(ids).logits, wanted, rtol=1e-5, atol=1e-5)


def test_the_path_name_says_which_backend_runs_where_the_model_is_now(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[torch.device, torch.dtype, int]] = []

    def pick(device: torch.device, dtype: torch.dtype, states: int) -> str:
        asked.append((device, dtype, states))
        return names.pop(0)

    monkeypatch.setattr(backend, "pick", pick)
    names = ["cuda", "torch", "mamba_ssm"]
    said = [llm.path_name for _ in range(3)]
    assert said[0] == "ctscribe: selective scan on cuda kernels"
    assert "without CUDA kernels" in said[1]
    assert "mamba_ssm" in said[2]
    assert set(asked) == {(torch.device("cpu"), torch.float32, 8)}
    names = ["cuda"]
    moved = copy.deepcopy(llm).bfloat16().to("meta")
    assert "cuda" in moved.path_name
    assert asked[-1] == (torch.device("meta"), torch.bfloat16, 8)


def test_a_backend_that_cannot_run_is_refused_when_the_model_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_chosen", "cuda")
    with pytest.raises(KernelError, match=r"needs a GPU, not cpu\. Fix: use --backend auto"):
        load_llm(folder)


def test_the_official_extension_runs_in_the_mixers(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert llm.frozen is not None
    monkeypatch.setattr(backend, "_chosen", "mamba_ssm")
    assert llm.frozen is None
    ids = torch.arange(2, 14).view(2, 6)
    with pytest.raises(KernelError, match="mamba_ssm needs a GPU"):  # so it was asked
        llm.forward_embeds(llm.embed(ids), torch.ones_like(ids), ids)


def test_loss_covers_the_labels_alone_and_padding_changes_nothing(llm: LLM) -> None:
    ids = torch.arange(2, 14).view(2, 6)
    labels = ids.masked_fill(torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]).bool(), IGNORED)
    mask = torch.ones_like(ids)
    loss = llm.forward_embeds(llm.embed(ids), mask, labels)
    theirs = stock_mamba()(ids, labels=labels, use_cache=False).loss
    torch.testing.assert_close(loss, theirs)
    pad = torch.nn.functional.pad
    padded = llm.forward_embeds(
        pad(llm.embed(ids), (0, 0, 0, 3), value=9.0),
        pad(mask, (0, 3)),
        pad(labels, (0, 3), value=IGNORED),
    )
    torch.testing.assert_close(padded, loss)


def test_another_family_runs_through_transformers_with_the_same_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config: Any = transformers.GraniteConfig(
        vocab_size=len(tokenizer()),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=3.0,
        tie_word_embeddings=True,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=0,
    )
    model: Any = transformers.GraniteForCausalLM(config)
    llm = load_llm(save(tmp_path, model))
    assert llm.path_name == "transformers"
    ids = torch.arange(2, 14).view(2, 6)
    labels = ids.masked_fill(torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]).bool(), IGNORED)
    loss = llm.forward_embeds(llm.embed(ids), torch.ones_like(ids), labels)
    torch.testing.assert_close(loss, model.eval()(ids, labels=labels).loss)


def test_phrase_embedding_is_the_scaled_sum_and_gradients_reach_the_table(llm: LLM) -> None:
    phrase = "右肺上叶 结节 无"
    tokens = [llm.tokenizer(word, add_special_tokens=False)["input_ids"] for word in phrase.split()]
    ids = torch.tensor([i for word in tokens for i in word])
    wanted = llm.embed(ids).sum(0) / len(ids) ** 0.5
    got = llm.phrase_embeddings([phrase, "left effusion none"])
    torch.testing.assert_close(got[0], wanted)
    assert got.shape == (2, 24)
    assert (got[0] - got[1]).abs().max() > 0.01
    with pytest.raises(ValueError, match="phrases must hold text"):
        llm.phrase_embeddings(["  "])


def test_text_embedding_of_a_text_does_not_depend_on_its_neighbours(llm: LLM) -> None:
    texts = ["右肺上叶结节。", "Left lower lobe nodule, 14 mm, and a much longer sentence.", "a"]
    together = llm.text_embedding(texts)
    for i, text in enumerate(texts):
        torch.testing.assert_close(llm.text_embedding([text])[0], together[i])


def test_unused_rows_are_those_without_a_token(llm: LLM) -> None:
    unused = llm.unused_ids()
    assert unused.nonzero()[:, 0].tolist() == list(range(len(tokenizer()), len(unused)))
    assert len(unused) == len(tokenizer()) + 9


def test_checkpointed_blocks_give_the_same_gradient_and_keep_dropout_off(llm: LLM) -> None:
    ids = torch.arange(2, 22)[None]
    gradients = []
    for on in (False, True):
        llm.checkpoint_blocks(on)
        x = llm.embed(ids).detach().clone().requires_grad_()
        llm.forward_embeds(x, torch.ones_like(ids), ids).backward()
        gradients.append(x.grad)
        flags = {m.training for m in llm.model.modules() if "Block" in type(m).__name__}
        assert flags == {on}
    llm.checkpoint_blocks(False)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "the tokenizer is missing"),
        ("model.safetensors", "weights are missing: model.safetensors"),
    ],
)
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, harm: str, reason: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "llm")
    (copy / harm).unlink()
    with pytest.raises(CheckpointError, match=reason) as error:
        load_llm(copy)
    assert "\n" not in str(error.value)
    assert "Fix: " in str(error.value)


def test_damaged_or_alien_weights_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "cut")
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-999])
    with pytest.raises(CheckpointError, match="cannot load") as error:
        load_llm(copy)
    assert "\n" not in str(error.value)
    alien = shutil.copytree(folder, tmp_path / "alien")
    config = json.loads((alien / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (alien / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="the weights lack"):
        load_llm(alien)


def test_a_hub_name_is_never_downloaded_but_explained() -> None:
    with pytest.raises(CheckpointError, match=r"never downloaded.*hf download state-spaces/m"):
        load_llm("state-spaces/mamba-2.8b-hf")
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load_llm("./nowhere")


def test_few_bits_on_a_cpu_or_in_two_sizes_are_refused(folder: Path) -> None:
    for options in ({"load_in_8bit": True}, {"load_in_4bit": True}):
        with pytest.raises(ConfigError, match=r"llm_[84]bit needs a CUDA device"):
            load_llm(folder, **options)
    with pytest.raises(ConfigError, match="both on"):
        load_llm(folder, load_in_8bit=True, load_in_4bit=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_read_a_report_as_sixteen_do_and_checkpoints_change_nothing(bits: int) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    gradients: list[torch.Tensor] = []
    losses: list[float] = []
    for few, checkpointed in ((False, False), (True, False), (True, True)):
        kind = {"load_in_8bit": few and bits == 8, "load_in_4bit": few and bits == 4}
        llm = load_llm(bundled("llm"), device="cuda", **kind)
        llm.checkpoint_blocks(checkpointed)
        mixer = llm.base.backbone.layers[0].mixer
        assert (f"{bits}bit" in type(mixer.in_proj).__name__) == few
        assert "bit" not in type(mixer.dt_proj).__name__
        ids = torch.tensor(
            [llm.answer_ids("所见：右肺上叶见实性结节，大小约15mm。")], device="cuda"
        )
        x = llm.embed(ids).detach().clone().requires_grad_()
        loss = llm.forward_embeds(x, torch.ones_like(ids), ids)
        loss.backward()
        assert x.grad is not None
        losses.append(loss.item())
        gradients.append(x.grad.flatten().float())
        assert not any(p.grad is not None for p in llm.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[2] == pytest.approx(losses[1], rel=1e-3)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(gradients[0], gradients[1], dim=0) > (0.95 if bits == 8 else 0.9)
    assert cosine(gradients[1], gradients[2], dim=0) > 0.999
