"""The sections of benchmarks/mamba.py: each measures us and our peers, and adds `Result`s."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mamba_peers as peers
import torch
import transformers
from mamba_model import RandomMamba, Shapes, copies, make_batch, scan_inputs
from mamba_peers import MAMBAPY, OFFICIAL, OURS, TORCH, TRANSFORMERS
from mamba_timing import GIB, Call, device_ms, peak_gib, wall_ms, wall_ms_and_gib
from transformers.models.mamba import modeling_mamba

from ctscribe.generation.decode import generate
from ctscribe.model.bridge import VimBlock
from ctscribe.model.decoder import MambaDecoder
from ctscribe.model.mamba import ScanMixer
from ctscribe.training.graphs import GraphedStep

ALL_INPUTS = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias")
# What transformers without extensions needs for these on an H200 is minutes, or more memory.
SLOW_STEP = "22 s and 52 GiB a step at batch 1 on an H200: run once"
NO_STEP = "out of memory on 139 GiB: not run"


@dataclass
class Result:
    """One figure: ours, the peers', and what there is to say about either."""

    value: float | None = None
    peers: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class Bench:
    """What the sections share."""

    def __init__(self, shapes: Shapes, device: torch.device, with_peers: bool) -> None:
        self.shapes, self.device, self.with_peers = shapes, device, with_peers
        self.results: dict[str, Result] = {}
        self._random: RandomMamba | None = None

    @property
    def quick(self) -> bool:
        """Whether only to see that everything runs."""
        return self.shapes.layers < 10

    @property
    def random(self) -> RandomMamba:
        """The model, made when first asked for."""
        if self._random is None:
            self._random = RandomMamba(self.shapes, self.device)
        return self._random

    def result(self, key: str) -> Result:
        """The result of a key, made when first asked for."""
        return self.results.setdefault(key, Result())

    def peer(self, key: str, name: str, measure: Callable[[], float], note: str = "") -> None:
        """Measure a peer, or note why not: not installed, out of memory, or it raises."""
        result = self.result(key)
        if not self.with_peers:
            return
        if reason := peers.missing(name):
            result.notes[name] = reason
            return
        try:
            result.peers[name] = measure()
        except torch.OutOfMemoryError:
            note = "out of memory"
        except RuntimeError as error:
            note = f"raises {type(error).__name__}: {str(error).splitlines()[0]}"
        if note:
            result.notes[name] = note
        self.tidy()

    def tidy(self) -> None:
        """Give back what the last measurement held."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def scan(bench: Bench) -> None:
    """The selective scan alone, forward, and forward with backward as a frozen model needs it."""
    shapes = bench.shapes
    for key, (batch, length), make in (
        ("scan_fwd_b1_l8192_ms", shapes.scan_forward, peers.forward_call),
        ("scan_fwdbwd_b4_l2048_ms", shapes.scan_large, peers.training_call),
        ("scan_fwdbwd_b1_l608_ms", shapes.scan_small, peers.training_call),
    ):
        values = scan_inputs(shapes, batch, length, bench.device)
        sets = [values] + [
            scan_inputs(shapes, batch, length, bench.device, seed=i)
            for i in range(1, copies(values) if bench.device.type == "cuda" else 1)
        ]
        result = bench.result(key)

        def timed(
            name: str,
            sets: Sequence[dict[str, torch.Tensor]] = sets,
            make: Callable[..., Call] = make,
            **options: Any,
        ) -> float:
            calls = [make(name, v, **options) for v in sets]
            return device_ms(calls, bench.device, shapes.repeats)

        def once(
            name: str,
            values: dict[str, torch.Tensor] = values,
            make: Callable[..., Call] = make,
            repeats: int = 1,
        ) -> float:
            return wall_ms(make(name, values), bench.device, repeats, warm_up=min(1, repeats - 1))

        result.value = timed(OURS)
        result.more["peak_gib"] = peak_gib(make(OURS, values), bench.device)
        if make is peers.training_call:
            result.more["all_gradients_ms"] = timed(OURS, names=ALL_INPUTS)
        bench.tidy()
        with peers.plain_torch():
            bench.peer(key, TORCH, lambda once=once: once(TORCH, repeats=3), "launches included")
            if bench.with_peers:
                result.more["torch_peak_gib"] = peak_gib(make(TORCH, values), bench.device)
        bench.peer(key, OFFICIAL, lambda timed=timed: timed(OFFICIAL))
        wide = {k: v.float() for k, v in values.items()}
        note = "in fp32: in 16 bits it raises" if shapes.dtype != torch.float32 else ""
        bench.peer(key, MAMBAPY, lambda once=once, wide=wide: once(MAMBAPY, wide, repeats=3), note)
        bench.peer(key, TRANSFORMERS, lambda once=once: once(TRANSFORMERS), "run once")
        del sets, values, wide
        bench.tidy()


def step(bench: Bench) -> None:
    """One step of stage 2 through the frozen model, to the visual tokens' gradient."""
    shapes, device = bench.shapes, bench.device
    for batch_size in shapes.step_batches:
        batch = make_batch(bench.random, shapes, batch_size, device)
        prefix = f"step_b{batch_size}_l608"
        llm = bench.random.llm

        def train(loss_of: Callable[..., torch.Tensor], batch: Any = batch) -> None:
            batch.visual.grad = None
            loss_of(batch.embeds(), batch.mask, batch.labels).backward()

        def eager(train: Callable[..., None] = train, llm: Any = llm) -> None:
            train(llm.forward_embeds)

        key, memory = f"{prefix}_ms", f"{prefix}_gib"
        result = bench.result(key)
        eager()
        eager_gib = peak_gib(eager, device)
        eager_ms = wall_ms(eager, device, shapes.repeats)
        if batch_size == 1:
            bench.result("step_eager_b1_l608_ms").value = eager_ms
        result.more |= {"eager_ms": eager_ms, "eager_gib": eager_gib}
        if device.type != "cuda":
            result.value, bench.result(memory).value = eager_ms, eager_gib
            result.notes[OURS] = "eager: a CPU has no graphs"
        else:
            result.value, bench.result(memory).value = _graphed(bench, train)
            result.more["reserved_gib"] = torch.cuda.memory_reserved(device) / GIB
            llm.checkpoint_blocks(True)
            result.more["lean_ms"], result.more["lean_gib"] = _graphed(bench, train)
            llm.checkpoint_blocks(False)
        bench.tidy()
        if bench.with_peers:
            _step_peers(bench, batch_size, batch, eager)


def _graphed(bench: Bench, train: Callable[..., None]) -> tuple[float, float | None]:
    """Time of a step as a CUDA graph, and the most memory of its capture and of a replay."""
    bench.tidy()
    graph = GraphedStep(bench.random.llm)
    peaks = [peak_gib(lambda: train(graph), bench.device) or 0 for _ in ("capture", "replay")]
    return wall_ms(lambda: train(graph), bench.device, bench.shapes.repeats), max(peaks) or None


def _step_peers(bench: Bench, batch_size: int, batch: Any, eager: Call) -> None:
    key, memory = f"step_b{batch_size}_l608_ms", f"step_b{batch_size}_l608_gib"
    device = bench.device

    def measured(name: str, call: Call, repeats: int, note: str = "") -> None:
        def run() -> float:
            ms, peak = wall_ms_and_gib(call, device, repeats, warm_up=min(1, repeats - 1))
            if peak is not None:
                bench.result(memory).peers[name] = peak
            return ms

        bench.peer(key, name, run, note)
        if batch_size == 1 and name in bench.result(key).peers:
            bench.result("step_eager_b1_l608_ms").peers[name] = bench.result(key).peers[name]

    with peers.plain_torch():
        measured(TORCH, eager, 3)
    with bench.random.transformers_mixers() as model:

        def theirs() -> torch.Tensor:
            return peers.transformers_step(model, batch)

        measured(OFFICIAL, theirs, 10)
        with peers.without_extensions():
            if batch_size == 1 or bench.quick:
                measured(TRANSFORMERS, theirs, 1, SLOW_STEP)
            else:
                bench.result(key).notes[TRANSFORMERS] = NO_STEP
            _use_mambapy(model, True)
            measured(MAMBAPY, theirs, 3)
            _use_mambapy(model, False)


def _use_mambapy(model: Any, use: bool) -> None:
    for layer in model.backbone.layers:
        layer.mixer.use_mambapy = use


def decode(bench: Bench) -> None:
    """Tokens a second of greedy decoding: the difference of two lengths, so the prompt is out."""
    shapes, device = bench.shapes, bench.device
    for batch_size in shapes.decode_batches:
        key = f"decode_b{batch_size}_tok_s"
        g = torch.Generator(device).manual_seed(2)
        ids = torch.randint(
            shapes.words, (batch_size, shapes.decode_prompt), generator=g, device=device
        )
        embeds, mask = bench.random.llm.embed(ids), torch.ones_like(ids)

        def ours(count: int, embeds: Any = embeds, mask: Any = mask) -> Any:
            return generate(bench.random.llm, embeds, mask, max_new_tokens=count)

        if len(ours(shapes.decode_tokens[0])[0].tokens) != shapes.decode_tokens[0]:
            raise RuntimeError("a text ended early, so its speed cannot be told")
        result = bench.result(key)
        result.value = _per_second(ours, shapes.decode_tokens, batch_size, device, 3)
        result.more["peak_gib"] = peak_gib(lambda ours=ours: ours(8), device)
        with bench.random.transformers_mixers() as model:

            def theirs(count: int, e: Any = embeds, m: Any = mask, model: Any = model) -> Any:
                return peers.transformers_write(model, e, m, count)

            def measure(theirs: Any = theirs, batch_size: int = batch_size) -> float:
                return _per_second(theirs, shapes.peer_tokens, batch_size, device, 1)

            bench.peer(key, OFFICIAL, measure)
            with peers.without_extensions():
                bench.peer(key, TRANSFORMERS, measure)
        result.notes[MAMBAPY] = "has no decoding of its own for this model"


def _per_second(
    write: Callable[[int], object],
    lengths: tuple[int, int],
    batch: int,
    device: torch.device,
    repeats: int,
) -> float:
    short, long = lengths
    first = wall_ms(lambda: write(short), device, repeats)
    second = wall_ms(lambda: write(long), device, repeats, warm_up=0)
    # Tiny models on a busy CPU can finish the longer text first.
    return batch * (long - short) / max(second - first, 1e-3) * 1e3


def prefill(bench: Bench) -> None:
    """Prompts of growing length: time a token, and how much memory a layer adds."""
    shapes, device = bench.shapes, bench.device
    key = "prefill_65536"
    result = bench.result(key)
    per_token: dict[str, float] = {}
    peaks: dict[str, float | None] = {}
    decoder = MambaDecoder(bench.random.llm.base)
    for length in shapes.prefill:
        embeds = torch.randn(1, length, shapes.width, device=device, dtype=shapes.dtype) * 0.02

        def run(embeds: torch.Tensor = embeds) -> Any:
            return decoder.prefill(embeds, None)

        ms, peaks[str(length)] = wall_ms_and_gib(run, device, 3)
        per_token[str(length)] = ms / length * 1e3
    with bench.random.fewer_layers(shapes.few_layers):
        decoder = MambaDecoder(bench.random.llm.base)
        few = peak_gib(run, device)
    result.value = per_token[str(shapes.prefill[-1])]
    slowest, first = max(per_token.values()), per_token[str(shapes.prefill[0])]
    result.more = {
        "us_per_token": per_token,
        "slowest_over_first": slowest / first,
        "peak_gib": peaks,
        f"peak_gib_{shapes.few_layers}_layers": few,
    }
    most = peaks[str(shapes.prefill[-1])]
    if few is not None and most is not None:
        between = (most - few) / (shapes.layers - shapes.few_layers)
        result.more["mib_per_layer"] = between * 1024
    length = shapes.prefill[0]
    embeds = torch.randn(1, length, shapes.width, device=device, dtype=shapes.dtype) * 0.02
    with bench.random.transformers_mixers() as model:

        @torch.no_grad()
        def theirs() -> Any:
            return model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)

        def measure() -> float:
            return wall_ms(theirs, device, 1) / length * 1e3

        note = f"at {length} tokens"
        bench.peer(key, OFFICIAL, measure, note)
        with peers.without_extensions():
            bench.peer(key, TRANSFORMERS, measure, f"{note}, run once")


def bridge(bench: Bench) -> None:
    """A bidirectional block of the bridge, forward and backward with all gradients."""
    batch, length, inner = bench.shapes.bridge
    device = bench.device
    torch.manual_seed(0)
    block = VimBlock(inner // 2, bench.shapes.state).to(device, bench.shapes.dtype)
    x = torch.randn(batch, length, inner // 2, device=device, dtype=bench.shapes.dtype)
    x.requires_grad_()
    leaves = [x, *block.parameters()]
    gy = torch.randn_like(x)
    key = "bridge_bidir_vs_official"
    result = bench.result(key)
    result.notes["what"] = "VimBlock whole: norm, projections, convolutions, scans, both directions"

    def training(module: Any) -> Call:
        return lambda: torch.autograd.grad(module(x), leaves, gy)

    def timed(module: Any) -> float:
        return device_ms([training(module)] * 3, device, bench.shapes.repeats)

    ours = timed(block)
    result.more["ours_ms"] = ours
    result.more["peak_gib"] = peak_gib(training(block), device)
    with peers.plain_torch():
        bench.peer(key, TORCH, lambda: wall_ms(training(block), device, 3))
    bench.peer(key, OFFICIAL, lambda: timed(peers.OfficialVimBlock(block)))
    if OFFICIAL in result.peers:
        result.value = result.peers[OFFICIAL] / ours


def cpu(bench: Bench) -> None:
    """One layer on a CPU in fp32, against transformers without extensions in the same run."""
    length, width, rank = bench.shapes.cpu_layer
    device = torch.device("cpu")
    torch.manual_seed(0)
    config: Any = transformers.MambaConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        state_size=bench.shapes.state,
        time_step_rank=rank,
    )
    theirs: Any = modeling_mamba.MambaMixer(config, layer_idx=0)
    ours = ScanMixer(theirs)
    x = torch.randn(1, length, width, requires_grad=True)
    gy = torch.randn(1, length, width)
    leaves = [x, *ours.parameters()]

    def forward(mixer: Any) -> Call:
        def call() -> Any:
            with torch.no_grad():
                return mixer(x)

        return call

    def training(mixer: Any) -> Call:
        return lambda: torch.autograd.grad(mixer(x), leaves, gy)

    repeats = max(3, bench.shapes.repeats // 2)
    with peers.without_extensions():
        for key, call, most in (
            ("cpu_fwd_vs_transformers", forward, 5),
            ("cpu_fwdbwd_vs_transformers", training, 1),
        ):
            result = bench.result(key)
            result.more["ours_ms"] = wall_ms(call(ours), device, repeats)
            warm = 0 if most == 1 else 1
            for name in (TRANSFORMERS, MAMBAPY):
                theirs.use_mambapy = name == MAMBAPY
                count = most if name == TRANSFORMERS else 3

                def measure(call: Any = call, count: int = count, warm: int = warm) -> float:
                    return wall_ms(call(theirs), device, count, warm_up=warm)

                bench.peer(key, name, measure)
            # Again: a machine that slowed down meanwhile must not flatter either side.
            again = wall_ms(call(ours), device, repeats)
            result.more["ours_again_ms"] = again
            result.more["ours_ms"] = max(result.more["ours_ms"], again)
            if TRANSFORMERS in result.peers:
                result.value = result.peers[TRANSFORMERS] / result.more["ours_ms"]


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "scan": scan,
    "step": step,
    "decode": decode,
    "prefill": prefill,
    "bridge": bridge,
    "cpu": cpu,
}
