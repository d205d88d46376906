"""The CMI against a loop over tokens, and what it must and must not see."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, silu, softplus

from ctscribe.model.bridge import Bridge, BridgeConfig, Direction
from ctscribe.model.checkpoint import load_tensors, save_tensors
from ctscribe.model.cmi import CMI, EPS, CmiConfig, pool_windows, window_weights
from ctscribe.model.encoder import Encoder, EncoderConfig
from ctscribe.model.head_loss import IGNORED
from ctscribe.model.llm import LLM, load_llm
from ctscribe.model.pooling import Pooled, PoolingConfig
from ctscribe.model.vlm import VLM, Provenance, load_vision, new_vision, save_vision
from tests.model.tiny import save, stock_mamba

WIDTH, INNER, STATE = 12, 10, 4


def new(
    compress_to: int | None = None, seed: int = 0, *, apart: int = 0, trained: bool = True
) -> CMI:
    torch.manual_seed(seed)
    cmi = CMI(CmiConfig(WIDTH, INNER, STATE, compress_to, apart)).double()
    cmi.fit_scale(0.3)
    if trained:  # nothing at a special value
        with torch.no_grad():
            for parameter in cmi.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return cmi


def inputs(batch: int = 2, length: int = 9, asked: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    visual = torch.randn(batch, length, WIDTH, generator=g, dtype=torch.float64) * 0.3
    question = torch.randn(batch, asked, WIDTH, generator=g, dtype=torch.float64) * 0.3
    mask = torch.ones(batch, asked, dtype=torch.long)
    mask[-1, asked - 2 :] = 0
    return visual.requires_grad_(), question.requires_grad_(), mask


def rms(x: Tensor) -> Tensor:
    return x / (x.square().mean() + EPS).sqrt()


def scanned(part: Any, x_LE: Tensor, z_LE: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """One direction, a token at a time: what makes dt, B and C is FiLM's, what flows is not."""
    kernel, rank, n = part.conv_weight.shape[1], part.rank, part.state
    A = -part.A_log.float().exp().double()  # as the block takes it
    state, rows = torch.zeros(INNER, n, dtype=x_LE.dtype), []
    for t in range(len(x_LE)):
        u = part.conv_bias
        for k in range(kernel):
            if t - k >= 0:
                u = u + part.conv_weight[:, kernel - 1 - k] * x_LE[t - k]
        u = silu(u)
        low, B, C = part.x_proj(scale * u + shift).split([rank, n, n])
        dt = softplus(part.dt_proj(low) + part.dt_bias)
        decay = torch.exp(dt[:, None] * A)
        state = decay * state + (dt * u)[:, None] * B
        rows.append((state @ C + part.D * u) * silu(z_LE[t]))
    return torch.stack(rows)


def slow(cmi: Any, visual: Tensor, question: Tensor, mask: Tensor) -> Tensor:
    """The spec: loops over studies, tokens and windows."""
    out = []
    for v_LW, q_QW, m_Q in zip(visual, question, mask, strict=True):
        words = [rms(q) for q, m in zip(q_QW, m_Q, strict=True) if m]
        share = torch.stack([cmi.attend(w)[0] for w in words]).softmax(0)
        asked = torch.stack([s * w for s, w in zip(share, words, strict=True)]).sum(0)
        film = cmi.film(silu(cmi.question(asked)))
        ahead, back = cmi.directions
        xz = [cmi.in_proj(rms(v) * cmi.norm.weight) for v in v_LW]
        x, z = torch.stack([p[:INNER] for p in xz]), torch.stack([p[INNER:] for p in xz])
        scales, shifts = film[: 2 * INNER], film[2 * INNER :]
        y = scanned(ahead, x, z, 1 + scales[:INNER], shifts[:INNER])
        turned = scanned(back, x.flip(0), z.flip(0), 1 + scales[INNER:], shifts[INNER:])
        y = (y + turned.flip(0)) / 2
        tokens = v_LW + 0.3 * cmi.out_proj(y)
        to, length, apart = cmi.config.compress_to, len(v_LW), cmi.config.apart
        if to is not None and to < length:
            rows = []
            if to > apart:
                rows, to, length = list(tokens[:apart]), to - apart, length - apart
                tokens, y = tokens[apart:], y[apart:]
            for j in range(to):
                window = slice(math.floor(j * length / to), math.ceil((j + 1) * length / to))
                weights = cmi.score(y[window])[:, 0].softmax(0)
                rows.append(rms((weights[:, None] * tokens[window]).sum(0)) * cmi.norm_out.weight)
            tokens = torch.stack(rows)
        out.append(tokens)
    return torch.stack(out)


@pytest.mark.parametrize("apart", [0, 3])
@pytest.mark.parametrize("compress_to", [None, 1, 4, 7, 9, 20])
def test_it_is_the_loop_over_tokens(compress_to: int | None, apart: int) -> None:
    cmi = new(compress_to, apart=apart)
    visual, question, mask = inputs()
    ours, wanted = cmi(visual, question, mask), slow(cmi, visual, question, mask)
    assert ours.shape[1] == min(compress_to or 9, 9)
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-11)
    leaves = [visual, question, *cmi.parameters()]
    gy = torch.randn_like(ours)
    for (name, _), a, b in zip(
        [("visual", 0), ("question", 0), *cmi.named_parameters()],
        torch.autograd.grad(ours, leaves, gy, allow_unused=True),
        torch.autograd.grad(wanted, leaves, gy, allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None), name
        if a is not None:
            rtol = 1e-5 if name.endswith("A_log") else 1e-8  # whose gradient passes through fp32
            torch.testing.assert_close(a, b, rtol=rtol, atol=1e-6 * rtol, msg=name)


def test_padding_of_the_question_says_nothing() -> None:
    cmi = new()
    visual, question, mask = inputs()
    once = cmi(visual, question, mask)
    other = question.detach().clone()
    other[1, 3:] = other[1, 3:].flip(0) * 7
    assert torch.equal(cmi(visual, other, mask), once)
    longer = torch.cat([other, torch.randn(2, 4, WIDTH, dtype=torch.float64)], 1)
    padded = torch.nn.functional.pad(mask, (0, 4))
    torch.testing.assert_close(cmi(visual, longer, padded), once)
    (grad,) = torch.autograd.grad(once.sum(), question)
    assert not grad[1, 3:].any()
    assert grad[1, :3].abs().sum(1).all()
    words = torch.tensor([2, 0, 1, 3, 4])
    turned = cmi(visual, question[:, words], mask[:, words])
    torch.testing.assert_close(turned, once)  # pooled: the order of words does not count
    assert not torch.allclose(cmi(visual, question * torch.randn(WIDTH), mask), once, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_starts_as_the_identity_at_the_scale_of_the_embeddings(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for scale in (1e-3, 0.02, 3.0):
        visual = torch.randn(2, 40, 64) * scale
        question = (torch.randn(2, 5, 64) * scale).to(dtype)
        mask = torch.ones(2, 5)
        for to in (None, 40, 7):
            cmi = CMI(CmiConfig(width=64, inner=32, compress_to=to))
            cmi.fit_scale(scale)
            film_of_scale, film_of_shift = cmi._film(question, mask).unbind(1)
            assert torch.equal(film_of_scale, torch.ones_like(film_of_scale))
            assert not film_of_shift.any()
            out = cmi(visual, question, mask)
            assert out.dtype == dtype
            if out.shape[1] == 40:
                assert 0 < (out - visual).float().square().mean().sqrt() < 0.03 * scale
            assert out.float().square().mean().sqrt().item() == pytest.approx(scale, rel=0.05)


def test_the_question_matters_in_the_first_gradient_and_everything_learns() -> None:
    cmi = new(4, trained=False)
    visual, question, mask = inputs()
    optimizer = torch.optim.SGD(cmi.parameters(), lr=1.0)
    target = torch.randn(2, 4, WIDTH, dtype=torch.float64)
    first = [
        torch.autograd.grad((cmi(visual, q, mask) * target).sum(), cmi.film.weight)[0]
        for q in (question, question.flip(1))
    ]
    assert first[0].any()
    assert not torch.allclose(*first)
    for _ in range(2):
        optimizer.zero_grad()
        (cmi(visual, question, mask) * target).sum().backward()
        optimizer.step()
    still = [n for n, p in cmi.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_what_the_answer_needs_the_question_for_is_learnt() -> None:
    """Tokens are of type A or B and hold a value; the question says whose to read out."""

    def loss_after(blind: bool) -> float:
        torch.manual_seed(3)
        cmi = CMI(CmiConfig(width=8, inner=16, state=8))
        head = torch.nn.Linear(8, 1)
        words = torch.randn(2, 1, 8)
        optimizer = torch.optim.Adam([*cmi.parameters(), *head.parameters()], lr=1e-2)
        last = []
        for step in range(250):
            value = torch.randint(2, (16, 12)) * 2.0 - 1
            kind, asked = torch.randint(2, (16, 12)), torch.randint(2, (16,))
            visual = torch.zeros(16, 12, 8)
            visual[..., 0], visual[..., 1], visual[..., 2] = value, kind, 1 - kind
            question = words[asked * (not blind)]
            out = head(cmi(visual, question, torch.ones(16, 1)))[..., 0]
            loss = (out - value * (kind == asked[:, None])).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= 230:
                last.append(loss.item())
        return sum(last) / len(last)

    assert loss_after(blind=True) > 0.2  # half of the value is the best it can say: 0.25
    assert loss_after(blind=False) < 0.08


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_compression_drops_no_token_and_keeps_the_order(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 60))
    bins = data.draw(st.integers(1, length))
    scores = data.draw(st.lists(st.floats(-8, 8), min_size=length, max_size=length))
    score = torch.tensor([scores], dtype=torch.float64)
    index, weights = window_weights(score, bins)
    assert index.shape == weights.shape[1:]
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, bins, dtype=torch.float64))
    matrix = torch.zeros(bins, length, dtype=torch.float64).scatter_add_(1, index, weights[0])
    assert (matrix.sum(0) > 0).all(), "a token is in no window"
    assert ((matrix > 0).sum(0) <= 2).all()
    first = [int(row.nonzero()[0]) for row in matrix]
    last = [int(row.nonzero()[-1]) for row in matrix]
    assert first == sorted(first)
    assert last == sorted(last)
    place = torch.arange(length, dtype=torch.float64)[None, :, None]
    pooled = pool_windows(place, score, bins)[0, :, 0]
    assert (pooled.diff() > 0).all()
    constant = pool_windows(torch.full_like(place, 2.5), score, bins)
    torch.testing.assert_close(constant, torch.full_like(constant, 2.5))
    tokens = torch.randn(1, length, 3, dtype=torch.float64)
    plain = adaptive_avg_pool1d(tokens.transpose(1, 2), bins).transpose(1, 2)
    torch.testing.assert_close(pool_windows(tokens, torch.zeros_like(score), bins), plain)


def kept_bytes(cmi: CMI, length: int) -> int:
    """What autograd holds between forward and backward, each storage once, weights aside."""
    own = {p.untyped_storage().data_ptr() for p in cmi.parameters()}
    storages: dict[int, int] = {}
    held = []

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
            held.append(x)  # so that no address is used twice
        return x

    visual = torch.randn(1, length, cmi.config.width, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = cmi(visual, torch.randn(1, 8, cmi.config.width), torch.ones(1, 8))
    assert out.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize(("compress_to", "most"), [(None, 6.0), (48, 7.5)])
def test_memory_is_linear_in_tokens_with_a_small_constant(
    compress_to: int | None, most: float
) -> None:
    torch.manual_seed(0)
    width = 256
    cmi = CMI(CmiConfig(width=width, inner=width // 4, compress_to=compress_to))
    sizes = {n: kept_bytes(cmi, n) for n in (512, 1024, 2048)}
    assert sizes[1024] / sizes[512] == pytest.approx(2, rel=0.05)
    assert sizes[2048] / sizes[1024] == pytest.approx(2, rel=0.05)
    assert sizes[2048] < most * 2048 * width * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llm"), stock_mamba())


def new_vlm(llm: LLM, compress_to: int | None = None) -> VLM:
    torch.manual_seed(1)
    bridge = Bridge(BridgeConfig(input_width=30, width=32, tokens=6, llm_width=24, dropout=0.0))
    cmi = CMI(CmiConfig(width=24, inner=16, compress_to=compress_to))
    with torch.no_grad():
        cmi.film.weight.normal_()
        cmi.attend.weight.normal_()
    vision: Any = SimpleNamespace(bridge=bridge, cmi=cmi, pooling="grid")
    return VLM(vision, llm)


def batch() -> tuple[Pooled, Tensor, Tensor, Tensor]:
    """Questions of 3 and 5 tokens, answers of 4 and 6: padding at the right of the first."""
    g = torch.Generator().manual_seed(0)
    pooled = Pooled(torch.randn(2, 6, 30, generator=g), torch.randn(2, 6, 3, generator=g))
    ids = torch.randint(5, 90, (2, 11), generator=g)
    mask, labels = torch.ones_like(ids), ids.clone()
    mask[0, 7:] = 0
    for row, (start, end) in enumerate([(3, 7), (5, 11)]):
        labels[row, :start] = IGNORED
        labels[row, end:] = IGNORED
    return pooled, ids, mask, labels


@pytest.mark.parametrize("compress_to", [None, 4])
def test_the_answer_never_reaches_the_visual_tokens(folder: Path, compress_to: int | None) -> None:
    llm = load_llm(folder)
    vlm, seen = new_vlm(llm, compress_to), []
    vlm._step = lambda embeds, mask, labels: seen.append((embeds, mask, labels))  # type: ignore
    pooled, ids, mask, labels = batch()
    vlm(pooled, ids, mask, labels)
    embeds, long_mask, long_labels = seen[0]
    visual = compress_to or 6
    assert embeds.shape[1] == long_mask.shape[1] == long_labels.shape[1] == visual + 11
    said = ids.clone()
    said[labels != IGNORED] = 3
    said[mask == 0] = 4
    vlm(pooled, said, mask, torch.where(labels == IGNORED, labels, said))
    assert torch.equal(seen[1][0][:, :visual], embeds[:, :visual])
    asked = ids.clone()
    asked[:, 1] = 3
    vlm(pooled, asked, mask, labels)
    assert (seen[2][0][:, :visual] != embeds[:, :visual]).flatten(1).any(1).all()
    # By gradient: what of the text the visual tokens depend on is the question and nothing else.
    table: Tensor = llm.embed(ids).detach().requires_grad_()
    llm.embed = lambda _: table  # type: ignore[method-assign]
    vlm(pooled, ids, mask, labels)
    (grad,) = torch.autograd.grad(seen[3][0][:, :visual].square().sum(), table)
    wanted = (mask == 1) & (labels == IGNORED)
    assert torch.equal(grad.abs().sum(-1) > 0, wanted)


def test_generation_starts_from_what_training_had(folder: Path) -> None:
    vlm = new_vlm(load_llm(folder), 4)
    pooled, ids, mask, labels = batch()
    vlm._step = lambda embeds, mask, labels: embeds
    trained = vlm(pooled, ids, mask, labels)
    for row, asked in enumerate((3, 5)):
        prefix = vlm.prefix(pooled.rows([row]), ids[row : row + 1, :asked])
        torch.testing.assert_close(prefix[0], trained[row, : 4 + asked])


def test_a_checkpoint_of_before_still_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    provenance = Provenance("align", {}, 96, 0, "zh", "", "", "", {}, {})
    choice = PoolingConfig(kind="grid", order="hilbert")
    made = new_vision(Encoder(config), choice, llm_width=24, embedding_rms=0.1)
    save_vision(tmp_path / "x.pt", made, provenance)
    assert load_vision(tmp_path / "x.pt")[0].pooling.order == "hilbert"
    tensors, settings = load_tensors(tmp_path / "x.pt")
    settings["pooling"] = {"kind": "grid", "size": [4, 4, 4]}
    save_tensors(tmp_path / "old.pt", tensors, settings)
    assert load_vision(tmp_path / "old.pt")[0].pooling.order == "row"


def test_a_checkpoint_keeps_it_and_one_without_still_loads(tmp_path: Path) -> None:
    config = EncoderConfig(channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    provenance = Provenance("align", {}, 96, 0, "zh", "", "", "", {}, {})
    for cmi in (None, CmiConfig(width=24, inner=8, state=5, compress_to=7)):
        torch.manual_seed(0)
        options: dict[str, Any] = {"llm_width": 24, "embedding_rms": 0.1, "cmi": cmi}
        made = new_vision(Encoder(config), PoolingConfig(), **options)
        save_vision(tmp_path / "x.pt", made, provenance)
        read, _, _ = load_vision(tmp_path / "x.pt")
        assert (read.cmi is None) == (cmi is None)
        assert read.visual_tokens == (20 if cmi is None else 7)
        if made.cmi is not None and read.cmi is not None:
            assert read.cmi.config == cmi
            for name, tensor in made.cmi.state_dict().items():
                assert torch.equal(read.cmi.state_dict()[name], tensor), name


def test_the_bridges_directions_are_as_they_were() -> None:
    names = {"conv_weight", "conv_bias", "x_proj.weight", "dt_proj.weight", "dt_bias", "A_log", "D"}
    assert set(Direction(8, 4, 4).state_dict()) == names
    torch.manual_seed(0)
    part = Direction(8, 4, 4).double()
    x, z = torch.randn(2, 2, 6, 8, dtype=torch.float64)
    same = part(x, z, film=(torch.ones(2, 8).double(), torch.zeros(2, 8).double()))
    torch.testing.assert_close(same, part(x, z))
