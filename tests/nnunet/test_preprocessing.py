"""What the imported encoder is shown is what nnU-Net's own preprocessor would show it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ctscribe.errors import ConfigError, ImageError
from ctscribe.imaging.lungs import Box
from ctscribe.imaging.nifti import read_volume
from ctscribe.imaging.nnunet import Recipe, prepare_nnunet
from ctscribe.imaging.transforms import Prepared
from ctscribe.imaging.volume import Volume

TOLERANCE = 1e-4  # of values that the network sees, which lie within some ±5
INTENSITY = {"mean": -740.0, "std": 230.0, "percentile_00_5": -980.0, "percentile_99_5": 34.0}
CONFIGURATION: dict[str, Any] = {
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": [16, 16, 16],
    "spacing": [],
    "normalization_schemes": ["CTNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
    },
    "resampling_fn_seg_kwargs": {
        "is_seg": True,
        "order": 1,
        "order_z": 0,
        "force_separate_z": None,
    },
    "architecture": {},
}


def theirs(file: Path, recipe: Recipe) -> tuple[NDArray[np.float32], list[list[int]]]:
    """nnU-Net's own output in the house's axes, and the box it cropped to in the network's."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = {
        "dataset_name": "x",
        "plans_name": "y",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(recipe.transpose),
        "transpose_backward": [int(i) for i in np.argsort(recipe.transpose)],
        "foreground_intensity_properties_per_channel": {"0": INTENSITY},
        "configurations": {
            "c": {
                **CONFIGURATION,
                "spacing": list(recipe.spacing_mm),
                "normalization_schemes": [recipe.normalization],
            }
        },
    }
    manager = PlansManager(json.loads(json.dumps(plans)))
    data, _, about = DefaultPreprocessor(verbose=False).run_case(
        [str(file)], None, manager, manager.get_configuration("c"), {"file_ending": ".nii.gz"}
    )
    house = np.flip(np.transpose(data[0], np.argsort(recipe.axes)), recipe.flipped)
    return house, about["bbox_used_for_cropping"]


def recipe_of(
    orientation: str, transpose: Any, spacing: tuple[float, ...], scheme: str = "CTNormalization"
) -> Recipe:
    intensity = tuple(INTENSITY[k] for k in ("mean", "std", "percentile_00_5", "percentile_99_5"))
    return Recipe(orientation, tuple(transpose), spacing, scheme, intensity)  # type: ignore[arg-type]


def write(
    file: Path, array: NDArray[np.int16], spacing_zyx: tuple[float, ...], orientation: str
) -> Volume:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing_zyx[::-1])
    # A corner of the scanner's own: 1 mm from a corner at 0 is a lost geometry, which is refused.
    image.SetOrigin((-150.5, -120.25, 40.0))
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, orientation), str(file))
    return read_volume(file)


def compared(ours: Prepared, expected: NDArray[np.float32], first: list[int]) -> None:
    """`ours` is `expected` from voxel `first` on, and zeros beyond."""
    got = ours.tensor[0].numpy()
    whole = np.zeros_like(got)
    to, of = [], []
    for n, start, there in zip(got.shape, first, expected.shape, strict=True):
        a, b = max(0, start), min(there, start + n)
        of.append(slice(a, b))
        to.append(slice(a - start, b - start))
    whole[tuple(to)] = expected[tuple(of)]
    # HU that are not normalised are some hundred times larger.
    scale = max(1.0, float(np.abs(expected).max()) / 10)
    np.testing.assert_allclose(got, whole, atol=TOLERANCE * scale, rtol=0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_part_is_nnunets_own(tmp_path: Path, data: st.DataObject) -> None:
    """Any orientation, axes, spacing, zero border and box, thick slices among them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    shape = tuple(data.draw(st.integers(6, 22)) for _ in range(3))
    mm = st.sampled_from((0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0))
    spacing = tuple(data.draw(mm) for _ in range(3))
    target = tuple(data.draw(mm) for _ in range(3))
    orientation = data.draw(st.sampled_from(("LPS", "RAS", "LAS", "PIR", "RPI", "SAL")))
    transpose = data.draw(st.permutations((0, 1, 2)))
    scheme = data.draw(
        st.sampled_from(
            ("CTNormalization",) * 3
            + ("ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization")
        )
    )
    array = rng.normal(-500, 500, shape).round().clip(-1024, 2500).astype(np.int16)
    array[0, 0, :2] = -1000, -900  # air, so that it counts as a CT
    border = data.draw(st.integers(0, 2))
    if border:
        array[:border] = 0
        array[:, :, -border:] = 0
    recipe = recipe_of(orientation, transpose, target, scheme)
    file = tmp_path / "ct.nii.gz"
    volume = write(file, array, spacing, orientation)
    expected, crop = theirs(file, recipe)
    low, high = [], []
    for n in volume.array_zyx.shape:
        a = data.draw(st.integers(0, n - 1))
        low.append(a)
        high.append(data.draw(st.integers(a + 1, n)))
    box = Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    multiple = tuple(data.draw(st.integers(1, 4)) for _ in range(3))
    ours = prepare_nnunet(volume, recipe, box=box, multiple=multiple, least=(5, 1, 1))
    # Where the first voxel lies in nnU-Net's output, from our own geometry.
    inside = [crop[recipe.axes.index(a)] for a in range(3)]
    starts = []
    for a, n in enumerate(volume.array_zyx.shape):
        start, stop = inside[a]
        starts.append(n - stop if a in recipe.flipped else start)
    first = [
        round((ours.origin_zyx[a] + 0.5 - starts[a]) / ours.step_zyx[a] - 0.5) for a in range(3)
    ]
    compared(ours, expected, first)
    size = np.array(ours.tensor.shape[1:])
    assert (size % multiple == 0).all()
    assert size[0] >= 5
    # The whole box is there, but for what nnU-Net cropped off as zeros.
    stops = [s + crop[recipe.axes.index(a)][1] - inside[a][0] for a, s in enumerate(starts)]
    for corner in (np.array(low), np.array(high) - 1):
        index = ours.from_source(np.clip(corner, starts, np.array(stops) - 1))
        assert (index > -1).all()
        assert (index < size).all()


def test_a_slice_is_that_of_the_whole_volume(tmp_path: Path) -> None:
    """In 2D nnU-Net resamples in the plane only, and clips to what the whole image held."""
    rng = np.random.default_rng(0)
    array = rng.normal(-500, 500, (12, 20, 18)).round().clip(-1024, 2500).astype(np.int16)
    recipe = recipe_of("LPS", (0, 1, 2), (0.8, 1.3))
    volume = write(tmp_path / "ct.nii.gz", array, (2.0, 1.0, 1.0), "LPS")
    expected, _ = theirs(tmp_path / "ct.nii.gz", recipe)
    ours = prepare_nnunet(volume, recipe, box=Box((7, 0, 0), (8, 20, 18)))
    assert ours.tensor.shape[1:] == (1, *expected.shape[1:])
    np.testing.assert_allclose(ours.tensor[0, 0].numpy(), expected[7], atol=TOLERANCE, rtol=0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_marked_voxel_keeps_its_place(data: st.DataObject) -> None:
    """A bright voxel is brightest where the geometry says it went, whatever way axes are turned."""
    shape = (16, 18, 20)
    at = tuple(data.draw(st.integers(3, n - 4)) for n in shape)
    array = np.full(shape, -900, np.int16)
    array[at] = 2000
    spacing = tuple(data.draw(st.sampled_from((1.0, 1.5, 2.0))) for _ in range(3))
    target = tuple(data.draw(st.sampled_from((0.75, 1.0, 1.5))) for _ in range(3))
    orientation = data.draw(st.sampled_from(("LPS", "RAS", "PIR", "SAL")))
    transpose = data.draw(st.permutations((0, 1, 2)))
    affine = np.diag([*spacing[::-1], 1.0])
    volume = Volume(array, spacing, affine)  # type: ignore[arg-type]
    ours = prepare_nnunet(
        volume,
        recipe_of(orientation, transpose, target, "NoNormalization"),
        box=Box((0, 0, 0), shape),
    )
    peak = np.unravel_index(int(ours.tensor[0].argmax()), ours.tensor.shape[1:])
    assert np.abs(ours.from_source(at) - peak).max() <= 1.0
    np.testing.assert_allclose(ours.to_source(ours.from_source(at)), at, atol=1e-9)
    mm = ours.to_mm(ours.from_source(at))
    np.testing.assert_allclose(mm, (affine @ [*at[::-1], 1.0])[:3], atol=1e-9)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="normalise by MyNormalization"):
        recipe_of("LPS", (0, 1, 2), (1.0, 1.0, 1.0), "MyNormalization")
    for wrong in ("LLS", "LP", "lps", ""):
        with pytest.raises(ConfigError, match="three letters"):
            recipe_of(wrong, (0, 1, 2), (1.0, 1.0, 1.0))
    zeros = Volume(np.zeros((4, 4, 4), np.int16), (1.0, 1.0, 1.0), np.eye(4))
    with pytest.raises(ImageError, match="every voxel is 0"):
        prepare_nnunet(
            zeros, recipe_of("LPS", (0, 1, 2), (1.0, 1.0, 1.0)), box=Box((0, 0, 0), (4, 4, 4))
        )
