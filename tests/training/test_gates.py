import pytest
import torch

from ctscribe.config import AlignConfig
from ctscribe.errors import GateError
from ctscribe.reports.language import SLOTS
from ctscribe.training import gates
from ctscribe.training.losses import sigmoid_contrastive, token_alignment, variance_floor

N = 60


def studies(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(N, len(SLOTS), generator=generator) < 0.2).float()
    group = torch.arange(N) // 2
    return truth, group[:, None] == group[None]


def test_a_model_that_sees_passes() -> None:
    truth, same = studies()
    study = torch.nn.functional.normalize(torch.randn(N // 2, 32), dim=1).repeat_interleave(2, 0)
    figures = gates.measure(study, study, same, truth * 4 - 2, truth)
    assert figures.label_auroc == pytest.approx(1.0)
    assert figures.retrieval_top5 == 1.0
    assert figures.effective_rank > 15
    assert not gates.verdict(figures, gates.Thresholds.of(AlignConfig(), figures))


def test_a_collapsed_model_fails_on_every_count() -> None:
    truth, same = studies()
    study = torch.ones(N, 32) / 32**0.5 + 1e-7 * torch.randn(N, 32)
    figures = gates.measure(study, torch.randn(N, 32), same, torch.zeros_like(truth), truth)
    wrong = gates.verdict(figures, gates.Thresholds.of(AlignConfig(), figures))
    assert len(wrong) == 3
    with pytest.raises(GateError, match="ignore-gate"):
        gates.require(wrong, ignore=False, file="x")
    gates.require(wrong, ignore=True, file="x")


@pytest.mark.parametrize("n", [8, 12, 20])
def test_few_studies_can_pass_if_they_differ_and_not_if_they_are_alike(n: int) -> None:
    torch.manual_seed(n)
    truth = (torch.rand(n, len(SLOTS)) < 0.2).float()
    same = torch.eye(n).bool()
    for spread, passes in ((1.0, True), (0.0, False)):
        study = torch.randn(1, 32) + torch.randn(n, 32) * torch.tensor([1.0] + [spread] * 31)
        study = torch.nn.functional.normalize(study, dim=1)
        figures = gates.measure(study, study, same, truth * 4 - 2, truth)
        wrong = gates.verdict(figures, gates.Thresholds.of(AlignConfig(), figures))
        assert bool(wrong) != passes, wrong


def test_too_few_studies_are_said_to_be_too_few() -> None:
    truth = torch.ones(5, len(SLOTS))
    study = torch.nn.functional.normalize(torch.randn(5, 32), dim=1)
    figures = gates.measure(study, study, torch.eye(5).bool(), truth, truth)
    wrong = gates.verdict(figures, gates.Thresholds.of(AlignConfig(), figures))
    assert len(wrong) == 1
    assert "5 held-out studies are too few" in wrong[0]
    assert "--val-ratio" in wrong[0]


def test_chance_of_retrieval_is_what_random_orders_reach() -> None:
    truth, same = studies()
    torch.manual_seed(1)
    hits = [
        gates.measure(torch.randn(N, 8), torch.randn(N, 8), same, truth, truth).retrieval_top5
        for _ in range(60)
    ]
    chance = gates.measure(torch.randn(N, 8), torch.randn(N, 8), same, truth, truth)
    assert sum(hits) / len(hits) == pytest.approx(chance.retrieval_chance, abs=0.03)


def test_effective_rank_counts_directions() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(32, 32))[0][:5]
    x = torch.randn(4000, 5) @ basis
    assert gates.effective_rank(x) == pytest.approx(5, abs=0.2)
    assert gates.effective_rank(torch.ones(10, 4)) == pytest.approx(1.0)
    nearly = torch.ones(60, 32) + 1e-3 * torch.randn(60, 32)
    assert gates.effective_rank(nearly) < 2


def test_equal_reports_are_not_pushed_apart() -> None:
    study = torch.nn.functional.normalize(torch.randn(4, 8), dim=1)
    study[1] = study[0]
    same = torch.eye(4, dtype=torch.bool)
    scale, bias = torch.tensor(2.3), torch.tensor(-5.0)
    aware = same.clone()
    aware[0, 1] = aware[1, 0] = True
    plain = sigmoid_contrastive(study, study, same, scale, bias)
    assert sigmoid_contrastive(study, study, aware, scale, bias) < plain


def test_floor_and_alignment_have_the_zero_they_should() -> None:
    torch.manual_seed(0)
    assert variance_floor(torch.randn(500, 6), 0.5) == 0
    assert variance_floor(torch.zeros(500, 6), 0.5) > 0.49
    targets = torch.randn(2, 3, 4)
    present = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    assert token_alignment(targets, targets, present) == 0
    wrong = targets.clone()
    wrong[0, 0] += 1
    denied = targets.clone()
    denied[0, 1] += 1
    scale = targets.square().sum(-1)
    ratio = token_alignment(wrong, targets, present) / token_alignment(denied, targets, present)
    assert ratio == pytest.approx(float(4 * scale[0, 1] / scale[0, 0]), rel=1e-4)


def test_retrieval_is_asked_for_above_chance_however_few_studies_there_are() -> None:
    for chance in (0.05, 0.46):
        figures = gates.GateFigures(12, 9.0, 0.9, {}, 0.0, chance)
        needed = gates.Thresholds.of(AlignConfig(), figures).retrieval_top5
        assert chance + 0.1 < needed < 0.7
