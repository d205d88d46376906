"""From an image to the streams that the bridge reads, with both kinds of encoder."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctscribe.config import CaptionConfig, ModelConfig
from ctscribe.errors import CheckpointError, ConfigError, ImageError
from ctscribe.imaging.volume import Volume
from ctscribe.model.encoder import Encoder, EncoderConfig
from ctscribe.model.nnunet import TrainedNnunet, configuration_of, network_from
from ctscribe.model.nnunet_encoder import NnunetEncoder, import_trained
from ctscribe.model.pooling import Pooled, PoolingConfig
from ctscribe.model.streams import check_choice, cost, pool
from ctscribe.model.vlm import Provenance, load_vision, new_vision, save_vision
from ctscribe.reports.language import SLOTS
from ctscribe.training.caption import _check_start
from ctscribe.training.data import to_input
from ctscribe.training.setup import pooling_of
from tests.imaging.bodies import body
from tests.nnunet import small_model

OWN = EncoderConfig(channels=(4, 6, 8, 8, 8))
CHEST = body()
BODY = CHEST.volume
FILE = Path("ct.nii.gz")


def nnunet(orientation: str = "LPS", **configuration: Any) -> NnunetEncoder:
    plans = small_model.plans(**configuration)
    architecture = configuration_of(plans, "3d_fullres")["architecture"]
    torch.manual_seed(0)
    trained = TrainedNnunet(
        plans=plans,
        dataset=small_model.dataset(),
        configuration="3d_fullres",
        trainer="nnUNetTrainer",
        folds=("0",),
        weights=[network_from(architecture, classes=2).state_dict()],
        mirror_axes=None,
        epoch=1,
        file=Path(__file__),
    )
    return import_trained(trained, orientation=orientation)


def own() -> Encoder:
    torch.manual_seed(0)
    return Encoder(OWN).eval()


CHOICES = [
    PoolingConfig(),
    PoolingConfig(mode="full", rois=5, roi_cells=(1, 2, 2), roi_stages=(0, 2)),
    PoolingConfig(mode="local_only", rois=3, roi_cells=(1, 1, 1), roi_stages=(1,)),
    PoolingConfig(kind="grid", size=(2, 3, 4), stages=(1, 3)),
    PoolingConfig(kind="grid", size=(), target=(2, 2, 2), mode="full", rois=1),
    PoolingConfig(kind="grid", size=(2, 3, 2), classes=True),
    PoolingConfig(kind="grid", size=(2, 2, 2), classes=True, mode="full", rois=1),
]


@pytest.mark.parametrize(
    "choice", CHOICES, ids=lambda c: f"{c.mode}-{c.kind}-{len(c.stages)}-{c.classes}"
)
@pytest.mark.parametrize("kind", ["own", "nnunet"])
def test_shapes_are_what_the_choice_says(choice: PoolingConfig, kind: str, tmp_path: Path) -> None:
    """And bridge, heads and checkpoint take them as they are."""
    encoder = own() if kind == "own" else nnunet()
    config = encoder.config
    if kind == "nnunet":
        choice = replace(choice, stages=tuple(min(s, 1) for s in choice.stages), roi_stages=(1,))
    if kind == "nnunet" and choice.kind == "region" and choice.has_global:
        with pytest.raises(ConfigError, match="does not know lobes"):
            check_choice(choice, config)
        return
    size = [m * n for m, n in zip(config.multiple, (3, 2, 2), strict=True)]
    image = torch.randn(2, 1, *(max(n, 16) for n in size))
    found = pool(encoder, choice, image)
    first = choice.global_tokens or choice.local_tokens
    width = choice.global_width(config) if choice.has_global else choice.local_width(config)
    assert found.features.shape == (2, first, width)
    assert found.position_mm.shape == (2, first, 3)
    assert (found.local is not None) == (choice.mode == "full")
    if found.local is not None:
        assert found.local.features.shape == (2, choice.local_tokens, choice.local_width(config))
    told = cost(choice, config, tuple(image.shape[2:]))
    numbers = [t.numel() for t in tensors(found)]
    assert told.numbers * 2 == sum(numbers)
    assert told.tokens == choice.tokens
    vision = new_vision(encoder, choice, llm_width=24, embedding_rms=0.1)
    vision.bridge.fit_input(found)
    tokens, hidden = vision.bridge(found)
    assert tokens.shape == (2, choice.tokens, 24)
    assert vision.heads(hidden).present.shape == (2, len(SLOTS))
    provenance = Provenance("align", {}, 96, 0, "zh", "", "", "", {}, {})
    save_vision(tmp_path / "x.pt", vision, provenance)
    again, _, _ = load_vision(tmp_path / "x.pt")
    assert again.pooling == choice
    assert again.encoder.config == config
    vision.eval()
    torch.testing.assert_close(again.bridge(again.pool(image))[0], vision.bridge(found)[0])


def tensors(pooled: Pooled) -> list[Tensor]:
    more = tensors(pooled.local) if pooled.local is not None else []
    return [pooled.features, pooled.position_mm, *more]


def test_both_streams_together_are_each_of_them_alone() -> None:
    image = torch.randn(1, 1, 16, 64, 64)
    full, whole, local = (
        pool(own(), PoolingConfig(mode=mode, roi_cells=(1, 1, 1)), image)
        for mode in ("full", "global_only", "local_only")
    )
    assert full.local is not None
    torch.testing.assert_close(full.features, whole.features)
    torch.testing.assert_close(full.local.features, local.features)
    torch.testing.assert_close(full.local.position_mm, local.position_mm)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_marked_voxel_is_inside_its_roi(data: st.DataObject) -> None:
    """From a mask or a point in mm, through cropping, resampling and turning, to the map's box."""
    kind = data.draw(st.sampled_from(("own", "nnunet", "turned")))
    encoder = (
        own()
        if kind == "own"
        else nnunet("LPS" if kind == "nnunet" else "PIR", spacing=[4.0, 5.0, 3.0])
    )
    inside = np.argwhere(CHEST.both)
    z, y, x = (int(n) for n in inside[data.draw(st.integers(0, len(inside) - 1))])
    hu = np.full_like(BODY.array_zyx, -850)
    hu[z, y, x] = 3000
    choice = PoolingConfig(
        mode="local_only", rois=2, roi_cells=(1, 1, 1), roi_stages=(0,), roi_side_mm=(18.0,) * 3
    )
    as_mask = data.draw(st.booleans())
    mask = np.zeros(hu.shape, np.uint8)
    mask[z, y, x] = 1
    mm = tuple((BODY.affine @ [x, y, z, 1.0])[:3])
    study = to_input(
        BODY, "c", FILE, encoder.config, choice, mask if as_mask else None, () if as_mask else [mm]
    )
    assert torch.isfinite(study.rois_mm).all(1).tolist() == [True, False]
    # The same box and grid, of the image in which that voxel alone is bright.
    from ctscribe.imaging.lungs import lung_box

    assert study.check is not None
    assert study.check.lungs is not None
    box = lung_box(study.check.lungs, encoder.config.margin_mm)
    marked = encoder.config.prepare(Volume(hu, BODY.spacing_zyx_mm, BODY.affine), box)
    assert marked.tensor.shape == study.image.shape
    peak = torch.tensor(np.unravel_index(int(marked.tensor[0].argmax()), study.image.shape[1:]))
    size, spacing = torch.tensor(study.image.shape[1:]), torch.tensor(marked.spacing_zyx_mm)
    at = (peak - (size - 1) / 2) * spacing
    assert ((at - study.rois_mm[0]).abs() <= spacing + 0.01).all(), (at, study.rois_mm[0])
    found = pool(encoder, choice, study.image[None], study.rois_mm[None])
    assert found.features[0, :, -3].tolist() == [1.0, 0.0]
    torch.testing.assert_close(found.position_mm[0, 0], study.rois_mm[0])


def test_rois_in_patches_are_those_of_the_whole_where_one_patch_is_the_whole() -> None:
    """Instance norm sees the patch: so an image of one patch is the case that must agree."""
    encoder = nnunet()
    choice = PoolingConfig(mode="local_only", roi_stages=(0, 1), rois=2, roi_cells=(1, 2, 2))
    image = torch.randn(1, 1, *encoder.config.tile)
    centres = torch.tensor([[[3.0, -8.0, 10.0], [-12.0, 6.0, 2.0]]])
    whole = pool(encoder, choice, image, centres)
    beyond = torch.zeros(1, 1, *(2 * n for n in encoder.config.tile))
    corner = (0, 0, *(slice(n // 2, n // 2 + n) for n in encoder.config.tile))
    beyond[corner] = image[0, 0]
    # The patch around the image's middle is exactly the image.
    one = replace(choice, rois=1)
    middle = pool(encoder, one, beyond, torch.zeros(1, 1, 3))
    same = pool(encoder, one, image, torch.zeros(1, 1, 3))
    torch.testing.assert_close(middle.features, same.features, atol=1e-5, rtol=1e-4)
    assert whole.features.shape[1] == 2 * 4


def test_rois_come_from_the_row_then_from_the_encoder_then_from_the_middle() -> None:
    image = torch.randn(2, 1, 16, 64, 64)
    choice = PoolingConfig(mode="local_only", rois=5, roi_cells=(1, 1, 1))
    given_rois = torch.full((2, 5, 3), torch.nan)
    given_rois[0, 0] = torch.tensor([4.0, 9.0, -6.0])
    found = pool(own(), choice, image, given_rois)
    assert found.features[0, :, -3].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert found.position_mm[0, 0].tolist() == [4.0, 9.0, -6.0]
    # The other study has none of its own: where the encoder looks, one a lobe.
    assert found.features[1, :, -3].tolist() == [1.0] * 5
    centre = pool(own(), replace(choice, roi_source="centre"), image)
    assert centre.features[0, :, -3].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert centre.position_mm[0, 0].tolist() == [0.0, 0.0, 0.0]


def test_a_roi_outside_names_both_sides() -> None:
    choice = PoolingConfig(mode="local_only")
    config = own().config

    def refused(match: str, **given: Any) -> None:
        used = given.pop("choice", choice)
        with pytest.raises(ImageError, match=match) as caught:
            to_input(BODY, "c7", FILE, config, used, **given)
        assert "case c7, ct.nii.gz" in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(
        r"point \(0, 0, 900\) mm lies outside the image, which .*300 to", points_mm=[(0, 0, 900)]
    )
    x, y, z = (BODY.affine @ [1, 1, 1, 1.0])[:3]
    refused(r"RoI at .* lies outside the .* x .* mm .* around the lungs", points_mm=[(x, y, z)])
    refused("the mask is empty", mask=np.zeros(BODY.array_zyx.shape, np.uint8))
    refused("this row has no mask_path", choice=replace(choice, roi_source="mask"))
    refused("this row has no roi_mm", choice=replace(choice, roi_source="points"))


def test_the_largest_parts_of_a_mask_come_first() -> None:
    mask = np.zeros(BODY.array_zyx.shape, np.uint8)
    mask[30, 40:42, 40:42] = 1
    mask[40:44, 50:54, 86:90] = 2
    choice = PoolingConfig(mode="local_only", rois=3)
    study = to_input(BODY, "c", FILE, OWN, choice, mask)
    assert torch.isfinite(study.rois_mm).all(1).tolist() == [True, True, False]
    # The larger lies higher, and toward the patient's right.
    assert study.rois_mm[0, 0] > study.rois_mm[1, 0]
    assert study.rois_mm[0, 2] > study.rois_mm[1, 2]


def test_what_an_encoder_cannot_serve_is_refused() -> None:
    def refused(match: str, config: Any, **choice: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            check_choice(PoolingConfig(**choice), config)

    refused("stage 7 .* deepest is 4", OWN, kind="grid", stages=(7,))
    refused("stage 3 .* deepest is 1", nnunet().config, mode="local_only", roi_stages=(3,))
    refused(r"cells of the grid are \(4, 4\)", OWN, kind="grid", size=(4, 4))
    blind = replace(OWN, lesions=("effusion",))
    refused("has not learned where lesions are", blind, mode="local_only", roi_source="encoder")


def test_settings_choose_rois_in_mm_or_in_voxels() -> None:
    voxels = pooling_of(ModelConfig(ablation_mode="full"), OWN)
    assert voxels.roi_side_mm == (32 * 4.0, 64 * 3.0, 64 * 3.0)
    assert voxels.roi_stages == (OWN.output_stage,)
    mm = pooling_of(ModelConfig(roi_side=25, local_output_stage=(0,), local_rois=2), OWN)
    assert mm.roi_side_mm == (25, 25, 25)
    assert (mm.rois, mm.roi_stages, mm.mode) == (2, (0,), "global_only")
    assert asdict(mm)["kind"] == "region"


def test_stage_two_counts_the_tokens_of_both_streams() -> None:
    choice = PoolingConfig(mode="full", rois=5, roi_cells=(2, 2, 2))
    vision = new_vision(own(), choice, llm_width=24, embedding_rms=0.1)
    before = Provenance("align", {}, 96, 0, "zh", "", "", "", {}, {})
    for most, fits in ((59, False), (60, True)):
        config = CaptionConfig(model=ModelConfig(max_visual_tokens=most))
        with nullcontext() if fits else pytest.raises(CheckpointError, match="makes 60 visual"):
            _check_start(config, None, vision, before, FILE, False)
