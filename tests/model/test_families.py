"""Each family: visual tokens must enter as the model takes its own, and text must come out."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.generation.decode import generate
from ctscribe.model import families
from ctscribe.model import llm as llm_module
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM, load_llm
from ctscribe.training.setup import add_lora
from tests.model.tiny import save
from tests.model.tiny_families import NAMES, OURS, qwen3_5_with_eyes, stock


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def load(name: str) -> LLM:
        return load_llm(save(tmp_path_factory.mktemp(name), stock(name)))

    return load


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (2, 13) and mask: the first is padded at its left."""
    ids = torch.randint(2, 300, (2, 13), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    return ids, mask


def test_a_loss_through_embeddings_is_the_models_own_from_ids(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[1, :7] = IGNORED
    loss = llm.forward_embeds(llm.embed(ids), mask, labels)
    theirs = stock(name)(ids, attention_mask=mask, labels=labels, use_cache=False).loss
    torch.testing.assert_close(loss, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_of_embeddings_are_the_models_own(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    x = llm.embed(ids).detach().clone().requires_grad_()
    llm.forward_embeds(x, mask, ids).backward()
    assert x.grad is not None
    assert (x.grad[:, :-1][mask[:, :-1] == 1].abs().amax(-1) > 0).all()
    model = stock(name)
    y = llm.embed(ids).detach().clone().requires_grad_()
    model(inputs_embeds=y, attention_mask=mask, labels=ids, use_cache=False).loss.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)


def test_text_written_from_embeddings_is_what_ids_give(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    got = generate(llm, llm.embed(ids), mask, max_new_tokens=7)
    wanted = stock(name).generate(
        ids,
        attention_mask=mask,
        max_new_tokens=7,
        do_sample=False,
        suppress_tokens=llm.unused_ids().nonzero()[:, 0].tolist(),
    )[:, ids.shape[1] :]
    for text, row in zip(got, wanted.tolist(), strict=True):
        end = row.index(llm.eos_id) if llm.eos_id in row else len(row)
        assert list(text.tokens) == row[:end]
    assert len({t for text in got for t in text.tokens}) > 2


def test_visual_tokens_stand_at_the_scale_of_text(name: str, loaded: Any) -> None:
    """A token that says a word as an embedding is read as the word itself, and as loud."""
    llm, (ids, mask) = loaded(name), prompts()
    known = (~llm.unused_ids()).nonzero()[:, 0]
    rms = llm.embed(known).double().square().mean().sqrt().item()
    assert llm.embedding_rms == pytest.approx(rms, rel=1e-5)
    one = ids[1, 3].item()
    said = llm.phrase_vectors(torch.tensor([[one]]), torch.ones(1, 1))
    embeds = llm.embed(ids).clone()
    embeds[1, 3] = said[0]
    got = llm.base(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
    wanted = stock(name)(ids, attention_mask=mask, use_cache=False).logits
    torch.testing.assert_close(got[mask == 1], wanted[mask == 1], rtol=1e-4, atol=1e-5)


def test_embedding_of_a_text_is_the_models_own_from_ids(name: str, loaded: Any) -> None:
    llm = loaded(name)
    text = "右肺上叶结节 14 mm"
    ids = torch.tensor([llm.tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        wanted = stock(name).base_model(ids, use_cache=False).last_hidden_state.mean(1)[0]
    got = llm.text_embedding([text, "left, and much longer than the first one"])[0]
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_checkpointed_blocks_are_run_again_and_change_nothing(name: str, loaded: Any) -> None:
    llm, (ids, mask) = loaded(name), prompts()
    gradients: list[Any] = []
    runs: list[int] = []
    counted: list[bool] = []
    for on in (False, True, False):
        llm.checkpoint_blocks(on)
        counted.clear()
        hooks = [m.register_forward_hook(lambda *_: counted.append(True)) for m in norms(llm)]
        x = llm.embed(ids).detach().clone().requires_grad_()
        llm.forward_embeds(x, mask, ids).backward()
        for hook in hooks:
            hook.remove()
        gradients.append(x.grad)
        runs.append(len(counted))
        for module in llm.model.modules():  # dropout stays off
            assert not module.training or hasattr(module, "gradient_checkpointing"), type(module)
    torch.testing.assert_close(gradients[1], gradients[0])
    if llm.frozen is None:  # a frozen Mamba does not go through its modules: see test_frozen.py
        assert runs[0] == runs[2] > 0
        assert runs[1] > 1.9 * runs[0]
    assert not any(m.training for m in llm.model.modules())


def norms(llm: LLM) -> list[Any]:
    """The norms inside the blocks: every block has one."""
    blocks = llm.base.base_model.layers
    return [m for m in blocks.modules() if "RMSNorm" in type(m).__name__]


def test_lora_reaches_layers_of_every_family(name: str, tmp_path: Path) -> None:
    llm, (ids, mask) = load_llm(save(tmp_path, stock(name))), prompts()
    add_lora(llm, 2, {}, tmp_path)
    for key, parameter in llm.model.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    llm.forward_embeds(llm.embed(ids), mask, ids).backward()
    learned = {n: p.grad for n, p in llm.model.named_parameters() if p.requires_grad}
    assert len(learned) >= 2
    assert all("lora_" in n and g is not None and g.abs().max() > 0 for n, g in learned.items())


def test_which_code_runs_is_said_once(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, logger="ctscribe"):
        llm = load_llm(save(tmp_path, stock(name)))
    said = [m for m in caplog.messages if "runs on" in m]
    assert len(said) == 1
    assert llm.path_name in said[0]
    if name in OURS:
        assert llm.path_name == "ctscribe: selective scan without CUDA kernels"
    elif name in ("Qwen3", "Llama", "Granite", "Gemma"):
        assert llm.path_name == "transformers"
    else:
        assert llm.path_name.startswith("transformers (recurrent layers: ")
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert families.transformers_path(llm.base).endswith(": PyTorch)")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        assert families.transformers_path(llm.base).endswith((": mamba_ssm)", ": fla)"))


def test_transformers_advice_to_install_kernels_is_not_shown(name: str, tmp_path: Path) -> None:
    folder = save(tmp_path, stock(name))
    theirs: Any = transformers.utils.logging
    logger = theirs.get_logger("transformers")
    type(logger).warning_once.cache_clear()
    shown: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    level = theirs.get_verbosity()
    theirs.set_verbosity_warning()
    try:
        llm, (ids, mask) = load_llm(folder), prompts()
        llm.forward_embeds(llm.embed(ids), mask, ids)
        generate(llm, llm.embed(ids), mask, max_new_tokens=3)
    finally:
        theirs.set_verbosity(level)
        logger.removeHandler(handler)
    assert shown == []


def test_a_qwen_folder_with_an_image_encoder_gives_its_language_model(tmp_path: Path) -> None:
    whole, (ids, _) = qwen3_5_with_eyes(), prompts()
    llm = load_llm(save(tmp_path, whole))
    assert llm.path_name.startswith("transformers (recurrent layers: ")
    loss = llm.forward_embeds(llm.embed(ids), torch.ones_like(ids), ids)
    torch.testing.assert_close(loss, whole(input_ids=ids, labels=ids).loss)


def test_a_family_that_takes_embeddings_at_another_scale_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, stock("FalconH1"))
    monkeypatch.setattr(families, "embed_scale", lambda _: 1.0)
    with pytest.raises(CheckpointError, match="falcon_h1 takes embeddings otherwise") as error:
        load_llm(folder)
    assert "\n" not in str(error.value)


def test_a_family_that_cannot_write_from_embeddings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, stock("Bamba"))
    monkeypatch.setattr(families, "generate_from_embeds", lambda _: None)
    with pytest.raises(CheckpointError, match="bamba cannot write on from embeddings"):
        load_llm(folder)


def test_a_family_that_cannot_recompute_is_named(loaded: Any) -> None:
    llm = loaded("Llama")
    llm.base.supports_gradient_checkpointing = False
    try:
        llm.checkpoint_blocks(False)
        with pytest.raises(ConfigError, match="family llama cannot recompute"):
            llm.checkpoint_blocks(True)
    finally:
        del llm.base.supports_gradient_checkpointing


def test_sampling_settings_in_the_folder_do_not_count(tmp_path: Path, loaded: Any) -> None:
    model, (ids, mask) = stock("Qwen3"), prompts()
    model.generation_config.update(
        do_sample=True, temperature=0.6, top_k=20, top_p=0.9, repetition_penalty=3.0
    )
    folder = save(tmp_path, model)
    assert "repetition_penalty" in (folder / "generation_config.json").read_text()
    texts = [
        generate(llm, llm.embed(ids), mask, max_new_tokens=7)
        for llm in (load_llm(folder), loaded("Qwen3"))
    ]
    assert texts[0] == texts[1]


def unpacked(few: LLM, plain: LLM) -> LLM:
    """`plain` with the weights of `few`'s 4-bit layers, as they were rounded."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    layers = dict(plain.base.named_modules())
    for key, packed in few.base.named_modules():
        if isinstance(packed, Linear4bit):
            weight = layers[key].weight
            rounded = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
            weight.data.copy_(rounded.view_as(weight))
    return plain


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("bits", [8, 4])
def test_layers_in_few_bits_keep_loss_and_gradient_near(
    name: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: Any
) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
    # A CPU with AVX512-BF16 would pack weights for a kernel of its own, which takes no sizes as
    # small as these; CUDA, where the product runs in few bits, has no such thing.
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    monkeypatch.setattr(llm_module, "_check_quantisable", lambda *_: None)  # tiny: a CPU will do
    few = load_llm(save(tmp_path, stock(name)), load_in_8bit=bits == 8, load_in_4bit=bits == 4)
    kinds = {key.split(".")[-1]: type(m).__name__ for key, m in few.base.named_modules()}
    assert f"{bits}bit" in kinds["q_proj" if "q_proj" in kinds else "in_proj"]
    assert not any(f"{bits}bit" in kinds.get(part, "") for part in ("dt_proj", "lm_head"))
    if name in OURS:
        assert all(f"{bits}bit" in kinds[part] for part in ("in_proj", "x_proj", "out_proj"))
    models = [loaded(name), few]
    if bits == 4:
        models.append(unpacked(few, load_llm(tmp_path)))
    (ids, mask), results = prompts(), []
    for llm in models:
        x = llm.embed(ids).detach().clone().requires_grad_()
        loss = llm.forward_embeds(x, mask, ids)
        loss.backward()
        assert x.grad is not None
        results.append((loss.item(), x.grad.flatten()))
    assert results[1][0] == pytest.approx(results[0][0], rel=0.05)
    cosine = torch.nn.functional.cosine_similarity(results[0][1], results[1][1], dim=0)
    # What 4 bits do to these random weights is no fault of ours: down to 0.70 (Qwen3_5Text).
    assert cosine > (0.98 if bits == 8 else 0.6)
    if bits == 4:  # ours to answer for: the same rounded weights in plain layers give the same
        assert results[1][0] == pytest.approx(results[2][0], rel=0.001)
        gradients = results[1][1], results[2][1]
        assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999
    texts = [generate(llm, llm.embed(ids), mask, max_new_tokens=4) for llm in (few, few)]
    assert texts[0] == texts[1]
    add_lora(few, 2, {}, tmp_path)
    few.forward_embeds(few.embed(ids), mask, ids).backward()
    assert any(p.grad is not None for n, p in few.model.named_parameters() if "lora_" in n)
