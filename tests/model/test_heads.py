import pytest
import torch

from ctscribe.model.heads import (
    HeadOutput,
    Heads,
    findings_of,
    grade_labels,
    grade_loss,
    grade_weights,
    label_losses,
    slot_labels,
)
from ctscribe.reports.language import SLOTS, slots_of
from ctscribe.reports.schema import Finding

STUDY = (
    Finding("nodule", "right", "RUL", 14.0, "part-solid"),
    Finding("emphysema", "left", "LUL"),
    Finding("effusion", "left", None, None, None, "moderate"),
)


def perfect(
    labels: torch.Tensor, density: torch.Tensor, amount: torch.Tensor, size: torch.Tensor
) -> HeadOutput:
    def onehot(index: torch.Tensor, n: int) -> torch.Tensor:
        return 20.0 * torch.nn.functional.one_hot(index.clamp_min(0), n).float()

    return HeadOutput(
        labels * 40 - 20, onehot(density, 4), onehot(amount, 3), size, torch.ones(1, 2)
    )


def test_labels_and_findings_are_each_others_inverse() -> None:
    labels = slot_labels([slots_of(STUDY), slots_of(())])
    assert labels.present.sum(1).tolist() == [3.0, 0.0]
    output = perfect(labels.present, labels.density, labels.amount, labels.size_mm)
    assert set(findings_of(output)[0]) == set(STUDY)
    assert findings_of(output)[1] == ()
    assert all(float(v) < 1e-6 for v in label_losses(output, labels).values())


def test_wrong_side_is_a_loss() -> None:
    labels = slot_labels([slots_of(STUDY)])
    output = perfect(labels.present.roll(1, 1), labels.density, labels.amount, labels.size_mm)
    assert label_losses(output, labels)["present"] > 1


def test_a_study_without_sizes_has_no_size_loss_and_no_nan() -> None:
    labels = slot_labels([slots_of(())])
    heads = Heads(16)
    losses = label_losses(heads(torch.randn(1, len(SLOTS) + 1, 16)), labels)
    assert losses["size"] == 0
    assert losses["density"] == 0
    assert all(torch.isfinite(v) for v in losses.values())


def test_without_grades_the_heads_are_as_they_were() -> None:
    def made(grades: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return dict(Heads(16, grades).state_dict())

    plain, graded = made(False), made(True)
    assert set(graded) - set(plain) == {"grade.weight", "grade.bias"}
    assert all(torch.equal(graded[name], tensor) for name, tensor in plain.items())
    hidden = torch.randn(3, len(SLOTS) + 1, 16)
    assert Heads(16)(hidden).grade is None
    assert Heads(16, True)(hidden).cpu().grade.shape == (3, 4)


def test_the_loss_is_of_known_grades_alone_and_rare_ones_weigh_more() -> None:
    labels = grade_labels(["IAC", None, "IAC", "AIS", "IAC"])
    assert labels.tolist() == [3, -1, 3, 1, 3]
    weights = grade_weights(labels)
    assert weights.tolist() == pytest.approx([4.0, 1.0, 4.0, 1 / 3])
    logits = torch.randn(5, 4, requires_grad=True)
    loss = grade_loss(logits, labels, weights)
    each = torch.nn.functional.cross_entropy(logits[[0, 2, 3, 4]], labels[[0, 2, 3, 4]], weights)
    torch.testing.assert_close(loss, each)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().sum() == 0
    assert logits.grad[3].abs().sum() > 0
    assert grade_loss(logits, torch.full((5,), -1), weights) == 0
    assert grade_weights(torch.full((5,), -1)).tolist() == [1.0] * 4
    assert grade_weights(grade_labels(["IAC"] * 999 + ["AAH"])).tolist() == pytest.approx(
        [4.0, 4.0, 4.0, 0.25], abs=1e-3
    )
