import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.errors import DataError
from ctscribe.evaluation.reliance import blank_image, commonest_normal, nearest, other_patient
from ctscribe.model.encoder import EncoderConfig


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(0, 99))
def test_no_study_is_ever_given_its_own_patients_image(patients: list[str], seed: int) -> None:
    if len(set(patients)) < 2:
        with pytest.raises(DataError, match="one patient"):
            other_patient(patients, seed)
        return
    at = other_patient(patients, seed)
    assert len(at) == len(patients)
    assert all(patients[i] != patients[j] for i, j in enumerate(at))
    if max(map(patients.count, patients)) <= len(patients) / 2:
        assert sorted(at) == list(range(len(patients)))  # then every image is used once


def test_blank_image_is_air_of_a_size_the_encoder_takes() -> None:
    config = EncoderConfig()
    image = blank_image(config)
    assert (image == EncoderConfig().blank).all()
    assert all(n % m == 0 for n, m in zip(image.shape[2:], config.multiple, strict=True))


def test_commonest_normal_report_states_no_finding() -> None:
    normal, other = "所见：两肺清晰。\n结论：未见异常。", "所见：心肺未见异常。\n结论：正常。"
    sick = "所见：右肺上叶实性结节，约14mm。\n结论：右肺上叶实性结节。"
    assert commonest_normal([sick, sick, sick, other, normal, normal]) == normal
    with pytest.raises(DataError, match="no training report is without findings"):
        commonest_normal([sick])


def test_nearest_ignores_scale_and_finds_the_same_study() -> None:
    torch.manual_seed(0)
    train = torch.randn(30, 12) * torch.logspace(-3, 3, 12)
    picked = [4, 17, 9]
    assert nearest(train[picked] * 1.0001, train) == picked
