import pytest
import torch
from torch import Tensor

from ctscribe.errors import ConfigError
from ctscribe.model.encoder import EncoderConfig, EncoderOutput
from ctscribe.model.pooling import PoolingConfig, pool_grid, pool_regions
from ctscribe.model.scan_order import ScanOrder, scan_order
from ctscribe.reports.language import SLOTS

CONFIG = EncoderConfig()
WIDTH = PoolingConfig().global_width(CONFIG)
SHAPE = (12, 10, 14)


def output(lobe: str, lesion: str, at: tuple[int, int, int] | None) -> EncoderOutput:
    """Every voxel is `lobe`; `lesion` is certain in one voxel, and absent elsewhere."""
    torch.manual_seed(0)
    region = torch.full((1, len(CONFIG.regions), *SHAPE), -20.0)
    region[:, CONFIG.regions.index(lobe)] = 20.0
    lesions = torch.full((1, len(CONFIG.lesions), *SHAPE), -12.0)
    if at is not None:
        lesions[(0, CONFIG.lesions.index(lesion), *at)] = 12.0
    fine = torch.randn(1, CONFIG.channels[1], *SHAPE)
    coarse = torch.randn(1, CONFIG.channels[2], *(n // 2 for n in SHAPE))
    return EncoderOutput({1: fine, 2: coarse}, region, lesions)


def test_a_lesion_reaches_its_own_slot_and_no_other() -> None:
    at = (7, 3, 9)
    with_it = pool_regions(output("LUL", "ground-glass", at), CONFIG)
    without = pool_regions(output("LUL", "ground-glass", None), CONFIG)
    slot = SLOTS.index(("nodule", "LUL"))
    assert with_it.features.shape == (1, len(SLOTS) + 1, WIDTH)
    peak = WIDTH - 20
    stands_out = with_it.features[0, :, peak] - without.features[0, :, peak]
    assert stands_out[slot] > 3
    others = [s for s in range(len(SLOTS)) if s != slot]
    assert stands_out[others].abs().max() < 1e-3
    fine = output("LUL", "ground-glass", at).maps[1][0, :, at[0], at[1], at[2]]
    assert torch.allclose(with_it.features[0, slot, : len(fine)], fine, atol=0.05)


def test_position_is_the_lesion_in_millimetres() -> None:
    at = (7, 3, 9)
    pooled = pool_regions(output("RLL", "solid", at), CONFIG)
    step = torch.tensor([4.0, 6.0, 6.0])
    middle = (torch.tensor(SHAPE) - 1) / 2
    expected = (torch.tensor(at) - middle) * step
    slot = SLOTS.index(("nodule", "RLL"))
    assert torch.allclose(pooled.position_mm[0, slot], expected, atol=0.5)


def test_pleural_slots_see_the_whole_side() -> None:
    peak = WIDTH - 20
    for place in ("RLL", "right pleura"):
        pooled = pool_regions(output(place, "effusion", (2, 2, 2)), CONFIG)
        right, left = (SLOTS.index(("effusion", side)) for side in ("right", "left"))
        values: Tensor = pooled.features[0, :, peak]
        assert values[right] > 2
        assert values[left] < -2


def test_grid_pooling_keeps_order_and_millimetres() -> None:
    pooled = pool_grid([torch.randn(1, 128, 3, 2, 2)], (96.0, 96.0, 96.0), (2, 2, 2))
    assert pooled.features.shape == (1, 8, 128)
    assert pooled.position_mm[0, 0, 2] < pooled.position_mm[0, 1, 2]
    assert pooled.position_mm[0, 0, 0] < pooled.position_mm[0, 4, 0]


@pytest.mark.parametrize("order", ["snake", "hilbert"])
def test_another_order_moves_features_and_millimetres_together(order: ScanOrder) -> None:
    size = (3, 4, 2)
    maps, space = [torch.randn(1, 128, 6, 4, 4)], (96.0, 96.0, 96.0)
    rows = pool_grid(maps, space, size)
    turned = pool_grid(maps, space, size, order=order)
    at = scan_order(size, order)
    assert not torch.equal(at, torch.arange(24))
    assert torch.equal(turned.features, rows.features[:, at])
    assert torch.equal(turned.position_mm, rows.position_mm[:, at])


def test_a_cell_says_how_much_of_each_class_is_in_it_and_where_most() -> None:
    """A nodule of one voxel is lost in the mean of its cell, not in the cell's peak."""
    seen = torch.zeros(1, 2, 8, 8, 8)
    seen[0, 0, :, :, :4] = 1.0
    seen[0, 1, 1, 6, 7] = 0.9
    rows = pool_grid([torch.randn(1, 5, 2, 2, 2)], (80.0, 80.0, 80.0), (2, 2, 2), classes=seen)
    mean, peak = rows.features[0, :, 5:7], rows.features[0, :, 7:]
    assert rows.features.shape == (1, 8, 9)
    assert mean[:, 0].tolist() == peak[:, 0].tolist() == [1.0, 0.0] * 4
    at = int(peak[:, 1].argmax())
    assert (rows.position_mm[0, at] > 0).tolist() == [False, True, True]
    assert peak[:, 1].sum() == peak[at, 1] == pytest.approx(0.9)
    assert mean[at, 1] == pytest.approx(0.9 / 64)


def test_a_slice_says_the_same_in_two_dimensions() -> None:
    seen = torch.rand(2, 3, 8, 12)
    rows = pool_grid([torch.randn(2, 5, 4, 6)], (80.0, 80.0), (2, 3), classes=seen)
    corner = seen[:, :, :4, :4].flatten(2)
    torch.testing.assert_close(rows.features[:, 0, 5:8], corner.mean(-1))
    assert torch.equal(rows.features[:, 0, 8:], corner.amax(-1))


def test_an_encoder_without_lobes_cannot_pool_by_region() -> None:
    config = EncoderConfig(regions=("outside", "lung"))
    with pytest.raises(ConfigError, match="does not know lobes"):
        pool_regions(output("RUL", "solid", None), config)
