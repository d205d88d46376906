"""A training step at 96 to 65,536 visual tokens, linear or not: python benchmarks/tokens.py.

Stage 2's step as training runs it (bridge forward, frozen language model, backward, AdamW on the
bridge), batch 1, 64 tokens of text of which 48 have a loss, random bf16 weights: mamba-2.8b's shape
through our kernels and CUDA graphs, and pythia-2.8b's through transformers with flash attention.
Both keep their activations or recompute each block; Mamba also with the CMI before it. Writes
results/tokens-<device>.json after each point and tokens.png and .svg beside it at the end.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from machine import commit, machine, short, short_name
from mamba_model import QUICK, RandomMamba, Shapes, StubTokenizer
from mamba_timing import GIB, wait
from tokens_figure import draw, slopes
from torch.nn.attention import SDPBackend, sdpa_kernel

from ctscribe.config import ModelConfig
from ctscribe.files import write_atomically
from ctscribe.model.bridge import Bridge, BridgeConfig
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM
from ctscribe.model.pooling import Pooled
from ctscribe.model.vlm import VLM, new_cmi
from ctscribe.training.graphs import GraphedStep
from ctscribe.training.setup import cmi_config

RESULTS = Path(__file__).parent / "results"
OUT_OF_MEMORY = "out of memory"
MODELS = ("mamba", "transformer")
FULL_SHAPES = Shapes()


@dataclass(frozen=True)
class Profile:
    """What is measured; the small one only shows that everything runs."""

    lengths: tuple[int, ...] = (96, 256, 608, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    cmi_at: int = 4096  # where the CMI's cost is read off
    compress_to: int = 96
    question: int = 16
    answer: int = 48
    mamba: Shapes = FULL_SHAPES
    layers: int = 32  # of the transformer, as wide as the Mamba
    heads: int = 32
    bridge_width: int = 192
    features: int = 128  # of a cell of the encoder's deepest map
    repeats: int = 7
    seconds: float = 4.0  # for the repeats of one point; two are always made


FULL = Profile()
SMALL = Profile(
    lengths=(16, 64, 256, 512),
    cmi_at=64,
    compress_to=32,
    mamba=QUICK,
    layers=2,
    heads=2,
    bridge_width=16,
    features=8,
    repeats=2,
    seconds=0.5,
)


@dataclass(frozen=True)
class Curve:
    """A way to run the step, measured at every length (or at `cmi_at` alone)."""

    model: str  # mamba or transformer
    recompute: bool
    cmi: bool = False
    compress: bool = False
    once: bool = False

    @property
    def name(self) -> str:
        """Its name in the JSON."""
        words = [self.model, "recomputed" if self.recompute else "kept"]
        words += ["cmi"] * self.cmi + ["compressed"] * self.compress
        return " ".join(words)


# Those that fit come first: what runs out of memory may leave less to the next.
CURVES = (
    Curve("mamba", recompute=True),
    Curve("mamba", recompute=True, cmi=True),
    Curve("mamba", recompute=True, cmi=True, compress=True),
    Curve("mamba", recompute=False, cmi=True, once=True),
    Curve("mamba", recompute=False),
    Curve("transformer", recompute=True),
    Curve("transformer", recompute=False),
)


def main() -> None:
    """Measure, write the JSON after each point, draw."""
    given = _arguments()
    device = torch.device(given.device)
    profile = SMALL if given.small else FULL
    path = given.out or (None if given.small else RESULTS / f"tokens-{short_name(device)}.json")
    if given.plot_only:
        path = given.out or RESULTS / "tokens-h200.json"
        print(f"drew {draw(json.loads(path.read_text(encoding='utf-8')), path.parent)}")
        return
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    transformers.utils.logging.set_verbosity_error()
    document = {
        "date": time.strftime("%Y-%m-%d"),
        **machine(device),
        "commit": commit(),
        "small": given.small,
        "text_tokens": profile.question + profile.answer,
        "answer_tokens": profile.answer,
        "points": _earlier(path, device, given) if path is not None else [],
    }
    for model in given.only:
        print(f"making the {model}", flush=True)
        llm = _mamba(profile, device) if model == "mamba" else _transformer(profile, device)
        for curve in (c for c in CURVES if c.model == model):
            full = False
            for tokens in (profile.cmi_at,) if curve.once else profile.lengths:
                point = {"curve": curve.name, "tokens": tokens}
                point |= {"note": OUT_OF_MEMORY} if full else _point(curve, llm, tokens, profile)
                full = point.get("note") == OUT_OF_MEMORY
                document["points"].append(point)
                document |= {"slopes": slopes(document), "cmi_cost": _cmi_cost(document, profile)}
                print(_line(point), flush=True)
                if path is not None:
                    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
        del llm
        _tidy(device)
    for kind, cost in document["cmi_cost"].items():
        print(f"CMI at {profile.cmi_at} visual tokens, {kind}: {cost}")
    print("small: nothing is written" if path is None else f"wrote {path}")
    if path is not None:
        print(f"drew {draw(document, path.parent)}")


def _arguments() -> argparse.Namespace:
    def chosen(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [n for n in names if n not in MODELS]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is no model: {' or '.join(MODELS)}")
        return names

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        type=chosen,
        default=MODELS,
        help=f"of {','.join(MODELS)}; the other's points stay as the file has them",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny shapes: does everything run?")
    parser.add_argument("--plot-only", action="store_true", help="draw what the JSON holds")
    parser.add_argument("--out", type=Path, help="the JSON to write instead of results/")
    return parser.parse_args()


def _earlier(path: Path, device: torch.device, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The points of models that are not measured now, if this device made them."""
    if not path.is_file():
        return []
    kept = json.loads(path.read_text(encoding="utf-8"))
    if (kept["device"], kept["small"]) != (machine(device)["device"], given.small):
        return []
    return [p for p in kept["points"] if p["curve"].split()[0] not in given.only]


def _mamba(profile: Profile, device: torch.device) -> LLM:
    return RandomMamba(profile.mamba, device).llm


def _transformer(profile: Profile, device: torch.device) -> LLM:
    """pythia-2.8b's shape: GPT-NeoX with as many weights as mamba-2.8b."""
    shapes = profile.mamba
    config: Any = transformers.GPTNeoXConfig(
        vocab_size=shapes.vocab,
        hidden_size=shapes.width,
        num_hidden_layers=profile.layers,
        num_attention_heads=profile.heads,
        intermediate_size=4 * shapes.width,
        max_position_embeddings=2 * max(profile.lengths),
    )
    torch.manual_seed(0)
    factory: Any = transformers.GPTNeoXForCausalLM
    with torch.device(device):
        model = factory._from_config(config, dtype=shapes.dtype, attn_implementation="sdpa")
    return LLM(model.eval().requires_grad_(False), StubTokenizer(shapes.words))


def _point(curve: Curve, llm: LLM, tokens: int, profile: Profile) -> dict[str, Any]:
    """One point's figures, or a note why there are none."""
    try:
        figures = _measure(curve, llm, tokens, profile)
    except torch.OutOfMemoryError:
        figures = {"note": OUT_OF_MEMORY}
    except RuntimeError as error:
        # What runs out of memory while a graph is captured ends in the capture's own error.
        full = OUT_OF_MEMORY in f"{error} {error.__context__}".lower()
        first = (str(error).splitlines() or [""])[0]
        figures = {"note": OUT_OF_MEMORY if full else f"raises {type(error).__name__}: {first}"}
    _tidy(llm.device)  # after the error and the frames that it held
    return figures


def _measure(curve: Curve, llm: LLM, tokens: int, profile: Profile) -> dict[str, Any]:
    device = llm.device
    llm.checkpoint_blocks(curve.recompute)
    step = _step(curve, llm, tokens, profile)
    base = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    loss = step()  # kernels load, graphs are captured, the optimiser makes its state
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    times: list[float] = []
    while len(times) < 2 or (len(times) < profile.repeats and sum(times) < profile.seconds):
        wait(device)
        start = time.perf_counter()
        step()
        wait(device)
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    text = profile.question + profile.answer
    figures = {
        "ms": short(seconds * 1e3),
        "repeats": len(times),
        "tokens_per_s": short((tokens + text) / seconds),
        "loss": short(loss),
    }
    if device.type == "cuda":
        figures |= {
            "peak_gib": short(torch.cuda.max_memory_allocated(device) / GIB),
            "reserved_gib": short(torch.cuda.max_memory_reserved(device) / GIB),
            "base_gib": short(base / GIB),  # weights, before the first step
        }
    return figures


def _step(curve: Curve, llm: LLM, tokens: int, profile: Profile) -> Callable[[], float]:
    """A whole step of stage 2, as `training.caption` takes it; returns the loss."""
    device = llm.device
    torch.manual_seed(0)
    bridge = Bridge(
        BridgeConfig(
            input_width=profile.features,
            width=profile.bridge_width,
            tokens=tokens,
            llm_width=llm.width,
        )
    )
    bridge.fit_scale(llm.embedding_rms)
    cmi = None
    if curve.cmi:
        to = profile.compress_to if curve.compress else None
        config = cmi_config(ModelConfig(use_cmi=True, cmi_compress_to=to), llm.width)
        assert config is not None
        cmi = new_cmi(config, llm.embedding_rms).to(device)
    pooled = Pooled(torch.randn(1, tokens, profile.features), torch.randn(1, tokens, 3) * 80)
    pooled = pooled.to(device)
    ids = torch.randint(profile.mamba.words, (1, profile.question + profile.answer))
    labels = ids.clone()  # on the CPU, as the training loop has them
    labels[:, : profile.question] = IGNORED
    ids, mask = ids.to(device), torch.ones_like(ids).to(device)
    vision: Any = SimpleNamespace(bridge=bridge.to(device).train(), cmi=cmi)

    def causal(embeds: torch.Tensor, _: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        whole: Any = None  # no padding, so no mask of L x L entries: flash attention
        return llm.forward_embeds(embeds, whole, labels)

    vlm = VLM(vision, llm, GraphedStep(llm) if curve.model == "mamba" else causal)
    parameters = [*bridge.parameters(), *(cmi.parameters() if cmi is not None else ())]
    optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.01)
    fast = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]

    def step() -> float:
        with sdpa_kernel(fast) if device.type == "cuda" else nullcontext():
            loss = vlm(pooled, ids, mask, labels)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def _tidy(device: torch.device) -> None:
    """Give back what the last measurement held on the GPU."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _cmi_cost(document: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """What the CMI adds at `cmi_at` visual tokens, in percent of the step without it."""
    at = {p["curve"]: p for p in document["points"] if p["tokens"] == profile.cmi_at}
    cost = {}
    for kind in ("kept", "recomputed"):
        plain, with_it = at.get(f"mamba {kind}", {}), at.get(f"mamba {kind} cmi", {})
        keys = [k for k in ("ms", "peak_gib", "reserved_gib") if plain.get(k) and with_it.get(k)]
        if keys:
            cost[kind] = {f"{k}_percent": short(100 * (with_it[k] / plain[k] - 1)) for k in keys}
    return cost


def _line(point: dict[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in point.items() if k not in ("curve", "tokens"))
    return f"{point['curve']}, {point['tokens']} visual tokens: {rest}"


if __name__ == "__main__":
    main()
