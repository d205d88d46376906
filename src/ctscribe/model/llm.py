"""The language model: any causal LM of transformers from a local folder, read and driven one way.

Prompt layout everywhere: [visual tokens] + tokens(question + "\\n") + tokens(answer) + end token.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.model import families
from ctscribe.model.frozen import FrozenMamba
from ctscribe.model.head_loss import IGNORED, head_cross_entropy
from ctscribe.model.mamba import is_mamba, use_our_mixers
from ctscribe.ops import backend as backends

_OUR_PATHS = {  # by backend
    "cuda": "ctscribe: selective scan on cuda kernels",
    "torch": "ctscribe: selective scan without CUDA kernels",
    "mamba_ssm": "ctscribe: selective scan on the extension of mamba_ssm",
}
_TEXT_BATCH = 64
# dt_proj is small and its rounding changes every step; lm_head is tied to the embeddings.
_UNQUANTISED = ["dt_proj", "lm_head"]
_ROWS = 8192  # of the embedding table at a time
_log = logging.getLogger(__name__)


class LLM(nn.Module):
    """A causal language model with its tokenizer: tokens in, loss or embeddings out."""

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self._frozen: tuple[nn.Module, FrozenMamba] | None = None
        self.lean = False  # blocks keep as little as they can; see `checkpoint_blocks`
        self.eos_id: int = tokenizer.eos_token_id
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.eos_id if pad is None else pad
        self._scale = families.embed_scale(self.base)

    @property
    def base(self) -> Any:
        """The transformers model itself, with or without LoRA around it."""
        wrapped: Any = self.model
        return wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        return self._table.weight.device

    @property
    def path_name(self) -> str:
        """Which code runs its layers, where it is now.

        Raises KernelError if the backend that was asked for cannot run there.
        """
        if not is_mamba(self.base):
            return families.transformers_path(self.base)
        weight = self._table.weight
        return _OUR_PATHS[backends.pick(weight.device, weight.dtype, self.base.config.state_size)]

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return self._table.embedding_dim

    @property
    def embedding_rms(self) -> float:
        """Root mean square of what `embed` gives for text: the scale of what the model reads."""
        ids = (~self.unused_ids()).nonzero()[:, 0].to(self.device)
        with torch.no_grad():
            squares = torch.zeros((), device=self.device)
            for start in range(0, len(ids), _ROWS):
                squares += self.embed(ids[start : start + _ROWS]).float().square().mean(1).sum()
        return float((squares / len(ids)).sqrt())

    @property
    def _table(self) -> nn.Embedding:
        return self.base.get_input_embeddings()  # type: ignore[no-any-return]

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids (...) to embeddings (..., width), as the model takes them for `inputs_embeds`.

        Whatever stands beside them, such as visual tokens, belongs at their scale: some families
        multiply their table's rows on the way.
        """
        rows = self._table(ids)
        return rows if self._scale == 1 else rows * self._scale  # type: ignore[no-any-return]

    def unused_ids(self) -> Tensor:
        """(vocabulary rows,) bool: rows without a token (models round their size up)."""
        unused = torch.ones(self._table.num_embeddings, dtype=torch.bool)
        known = torch.tensor(sorted(self.tokenizer.get_vocab().values()))
        unused[known[known < len(unused)]] = False
        return unused

    def prompt_ids(self, question: str) -> list[int]:
        """Tokens of a question as it stands before an answer."""
        return self._ids(question + "\n")

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of an answer, with the end token."""
        return [*self._ids(answer), self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Tokens to text, without special tokens."""
        return self.tokenizer.decode(  # type: ignore[no-any-return]
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def forward_embeds(self, embeds: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over the labels that are not IGNORED.

        embeds: (B, L, width). attention_mask, labels: (B, L), the labels on any device; they stand
        at their own token, the position before predicts them. Logits are computed at those
        positions only.
        """
        embeds, labels = embeds.to(self._table.weight.dtype), labels.to(embeds.device)
        targets, wanted = labels[:, 1:], labels[:, 1:] != IGNORED
        if is_mamba(self.base):
            hidden = self._hidden(embeds, attention_mask)[:, :-1][wanted]
            head = self.base.get_output_embeddings()
            hidden = hidden.to(head.weight.dtype)
            if type(head) is nn.Linear and head.bias is None and not head.weight.requires_grad:
                return head_cross_entropy(hidden, head.weight, targets[wanted])
            logits = head(hidden)
        else:
            # Other families scale or cap their logits: their own forward knows how.
            first = int(wanted.any(0).int().argmax())
            keep = torch.arange(first, labels.shape[1] - 1, device=labels.device)
            output = self.model(
                inputs_embeds=embeds,
                attention_mask=attention_mask,
                use_cache=False,
                logits_to_keep=keep,
            )
            logits = output.logits[wanted[:, first:]]
        return cross_entropy(logits.float(), targets[wanted])

    def phrase_tokens(self, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (n, T) of phrases without their blanks, and their weights: 1/sqrt(n) or 0.

        Raises ValueError if a phrase has no tokens.
        """
        rows = [[i for i in self._ids(p) if self.tokenizer.decode([i]).strip()] for p in phrases]
        if empty := [p for p, row in zip(phrases, rows, strict=True) if not row]:
            raise ValueError(f"phrases must hold text, not {empty[0]!r}")
        ids = torch.full((len(rows), max(map(len, rows))), self.pad_id)
        weights = torch.zeros(ids.shape)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            weights[i, : len(row)] = 1 / math.sqrt(len(row))
        return ids.to(self.device), weights.to(self.device)

    def phrase_vectors(self, ids: Tensor, weights: Tensor) -> Tensor:
        """(n, width) from `phrase_tokens`, with gradients: the weighted sum of the embeddings."""
        return (self.embed(ids) * weights[..., None].to(self._table.weight.dtype)).sum(-2)

    @torch.no_grad()
    def phrase_embeddings(self, phrases: Sequence[str]) -> Tensor:
        """(n, width): the sum of a phrase's token embeddings over the square root of their number.

        What a visual token should be to say the phrase: at the scale of one embedding.
        """
        return self.phrase_vectors(*self.phrase_tokens(phrases))

    @torch.no_grad()
    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """(n, width): mean of the last hidden states over each text's tokens, fp32."""
        rows = [self._ids(text) or [self.eos_id] for text in texts]
        out = torch.zeros(len(rows), self.width, device=self.device)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), _TEXT_BATCH):
            index = order[start : start + _TEXT_BATCH]
            length = max(len(rows[i]) for i in index)
            ids = torch.full((len(index), length), self.pad_id)
            mask = torch.zeros(ids.shape, dtype=torch.long)
            for b, i in enumerate(index):
                ids[b, : len(rows[i])] = torch.tensor(rows[i])
                mask[b, : len(rows[i])] = 1
            mask = mask.to(self.device)
            hidden = self._hidden(self.embed(ids.to(self.device)), mask).float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out[torch.tensor(index, device=self.device)] = mean
        return out

    def checkpoint_blocks(self, on: bool) -> None:
        """Recompute each block's activations in the backward pass, or keep them.

        transformers honours this in training mode only; just the blocks' own flag is set, so that
        dropout stays off. Raises ConfigError if the family cannot.
        """
        self.lean = on
        model: Any = self.base
        if not model.supports_gradient_checkpointing:
            if not on:
                return
            raise ConfigError(
                f"language models of the family {families.family(model)} cannot recompute their "
                "activations",
                fix="give --no-gradient-checkpointing",
            )
        name = "enable" if on else "disable"
        switch = getattr(model, f"activation_checkpointing_{name}", None)
        switch = switch or getattr(model, f"gradient_checkpointing_{name}")  # before 5.20
        switch(*([{"use_reentrant": False}] if on else []))
        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.training = on

    @property
    def frozen(self) -> FrozenMamba | None:
        """The model's blocks as one frozen function, where they can run so."""
        if backends.chosen() == "mamba_ssm":
            return None  # it calls no extension: the mixers do
        known = self._frozen
        if known is not None and known[0] is self.model and known[1].is_current():
            return known[1]
        self._frozen = None  # adapters came, or weights moved or changed
        if FrozenMamba.takes(self.base):
            self._frozen = self.model, FrozenMamba(self.base)
        return self._frozen[1] if self._frozen is not None else None

    def _hidden(self, embeds: Tensor, attention_mask: Tensor) -> Tensor:
        frozen = self.frozen
        if frozen is not None:
            return frozen(embeds, attention_mask, lean=self.lean)
        output = self.base.base_model(
            inputs_embeds=embeds, attention_mask=attention_mask, use_cache=False
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_llm(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
) -> LLM:
    """Load a frozen language model from a local folder; Mamba and Falcon-Mamba run on our ops.

    dtype: of the weights; left out, fp32 on a CPU and the stored one elsewhere.
    load_in_8bit, load_in_4bit: of the large linear layers; need CUDA and bitsandbytes.

    Raises CheckpointError if the folder is missing (nothing is ever downloaded), or lacks its
    config, tokenizer or weights, or they are damaged, or its family does not take embeddings as it
    takes ids; ConfigError if 8 or 4 bits are not possible.
    """
    folder = _check_folder(path)
    options: dict[str, Any] = {"dtype": dtype or _default_dtype(device)}
    if load_in_8bit or load_in_4bit:
        if load_in_8bit and load_in_4bit:
            raise ConfigError(
                "llm_8bit and llm_4bit are both on",
                fix="give one; --no-llm-8bit and --no-llm-4bit overrule the environment",
            )
        options |= _quantised(4 if load_in_4bit else 8, device)
    import transformers

    auto: Any = transformers.AutoModelForCausalLM

    with quiet_transformers(), _readable(folder):
        model, info = auto.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    _check_loaded(info, folder)
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            "its tokenizer has no end token", file=folder, fix="set eos_token in its tokenizer"
        )
    ours = is_mamba(model)
    if ours:
        use_our_mixers(model)
    if not (load_in_8bit or load_in_4bit):
        model.to(device)
    model.eval().requires_grad_(False)
    families.generate_from_embeds(model)
    if not ours:
        with quiet_transformers():
            families.check_embeds(model, model.get_input_embeddings(), folder)
    llm = LLM(model, tokenizer)
    _log.info("language model %s (%s) runs on: %s", folder, model.config.model_type, llm.path_name)
    return llm


def _check_folder(path: str | Path) -> Path:
    """The folder, if it holds everything a model needs."""
    folder = Path(path)
    if not folder.is_dir():
        name = str(path)
        hub = name.count("/") == 1 and not name.startswith((".", "/", "~"))
        raise CheckpointError(
            "there is no such folder, and language models are never downloaded here",
            file=name,
            fix=f"on a machine with a network run: hf download {name} --local-dir {folder.name}; "
            "copy that folder here and give its path"
            if hub
            else "give the local folder of a language model (--mamba-model)",
        )
    config = folder / "config.json"
    if not config.is_file():
        raise CheckpointError(
            "config.json is missing", file=folder, fix="copy the whole model folder again"
        )
    try:
        parsed = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"config.json is not JSON ({error})", file=config, fix="copy the model folder again"
        ) from error
    if not isinstance(parsed, dict) or "model_type" not in parsed:
        raise CheckpointError(
            "config.json names no model_type",
            file=config,
            fix="use the folder in transformers' format (its name on the hub often ends in -hf)",
        )
    tokenizers = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    if not any((folder / name).is_file() for name in tokenizers):
        raise CheckpointError(
            "the tokenizer is missing (tokenizer.json)",
            file=folder,
            fix="copy the whole model folder again",
        )
    _check_weights(folder)
    return folder


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    wanted = {"model.safetensors"}
    if index.is_file():
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        pickled = any(folder.glob("*.bin"))
        raise CheckpointError(
            f"weights are missing: {', '.join(missing[:3])}"
            + (" (*.bin are pickles, which are never loaded)" if pickled else ""),
            file=folder,
            fix="convert the weights to safetensors" if pickled else "copy the model folder again",
        )


def _check_loaded(info: dict[str, Any], folder: Path) -> None:
    """Every weight of the model came from the file, and every one of the file went into it."""
    for key, what in (
        ("missing_keys", "lack"),
        ("unexpected_keys", "have the unknown"),
        ("mismatched_keys", "have another shape of"),
        ("error_msgs", "cannot be read"),
    ):
        names = sorted(map(str, info.get(key) or ()))
        if names:
            raise CheckpointError(
                f"the weights {what} {', '.join(names[:3])} ({len(names)} in all)",
                file=folder,
                fix="copy the model folder again; config.json and weights must be of one model",
            )


def _default_dtype(device: str | torch.device) -> Any:
    # bf16 on a CPU without its instructions is many times slower than fp32.
    return torch.float32 if torch.device(device).type == "cpu" else "auto"


def _quantised(bits: int, device: str | torch.device) -> dict[str, Any]:
    _check_quantisable(bits, device)
    import transformers

    config: Any = transformers.BitsAndBytesConfig
    settings = config(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        llm_int8_skip_modules=_UNQUANTISED,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    # At every product of every layer it says that it computes in fp16, which is what it is for.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return {"quantization_config": settings, "device_map": {"": torch.device(device)}}


def _check_quantisable(bits: int, device: str | torch.device) -> None:
    # bitsandbytes does run on a CPU, but takes a minute for the gradient of one layer in 4 bits.
    if torch.device(device).type != "cuda" or not torch.cuda.is_available():
        raise ConfigError(
            f"llm_{bits}bit needs a CUDA device", fix=f"leave --llm-{bits}bit out on a CPU"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f"llm_{bits}bit needs bitsandbytes", fix="pip install bitsandbytes")


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn whatever transformers raises on a damaged folder into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # safetensors and tokenizers raise bare Exceptions
        raise CheckpointError(
            f"transformers cannot load it: {' '.join(str(error).split())[:200]}",
            file=folder,
            fix="copy the model folder again, and check that it is a causal language model",
        ) from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars and advice to install kernels; what is wrong is raised, not printed."""
    from transformers.utils import logging as their_logging

    theirs: Any = their_logging
    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
