"""Checkpoints that nnU-Net wrote become encoders: strictly, and without running what is in them."""

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.cli import main
from ctscribe.config import ImportEncoderConfig, ModelConfig
from ctscribe.errors import CheckpointError, ConfigError
from ctscribe.model.encoders import load_encoder, save_encoder
from ctscribe.model.nnunet import (
    class_names,
    configuration_of,
    load_checkpoint,
    network_from,
    read_trained_model,
)
from ctscribe.model.nnunet_encoder import NnunetEncoder, _in_patches, import_trained
from ctscribe.training.setup import import_nnunet, open_encoder
from tests.nnunet.conftest import raw_images
from tests.nnunet.trained import ORIENTATION

PLAIN_3D = "nnUNetTrainer__nnUNetPlans__3d_fullres"
PLAIN_2D = "nnUNetTrainer__nnUNetPlans__2d"
KINDS = (
    PLAIN_3D,
    PLAIN_2D,
    "nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres",
    "nnUNetTrainer__nnUNetResEncUNetMPlans__2d",
)
REAL_PLANS = Path(__file__).parents[3] / "shared" / "data" / "nnunet_plans"


def theirs(folder: Path) -> Any:
    """The network as nnU-Net itself builds and loads it."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    checkpoint = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    plans = PlansManager(checkpoint["init_args"]["plans"])
    configuration = plans.get_configuration(checkpoint["init_args"]["configuration"])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        3,
        deep_supervision=True,
    )
    network.load_state_dict(checkpoint["network_weights"])
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_nnunets_own_network(
    trained: Path, kind: str, tmp_path: Path
) -> None:
    """Imported, saved and read again; the network's axes, not the house's, are those of LPS."""
    encoder = import_nnunet(trained / kind, ImportEncoderConfig())
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert isinstance(again, NnunetEncoder)
    assert again.config == encoder.config
    house = torch.randn(1, 1, *again.config.tile, generator=torch.Generator().manual_seed(0))
    network = theirs(trained / kind)
    flips = [-1, -2]  # LPS grows against the house's x and y
    with torch.no_grad():
        skips = network.encoder(house.flip(flips))
        logits = network.decoder(skips)[0]
        ours = again(house, segment=True)
    assert sorted(ours.maps) == list(range(len(skips)))
    for stage, skip in enumerate(skips):
        assert skip.shape[1] == again.config.channels[stage]
        torch.testing.assert_close(ours.maps[stage], skip.flip(flips), atol=1e-5, rtol=0)
        stride = [n // m for n, m in zip(house.shape[2:], skip.shape[2:], strict=True)]
        assert tuple(stride) == again.config.stride_at(stage)
    assert ours.classes is not None
    assert again.config.classes[2:] == (again.config.roi_class,) == ("lesion",)
    expected = logits.softmax(1).flip(flips)
    torch.testing.assert_close(ours.classes, expected, atol=1e-5, rtol=0)
    # Only what is asked for is computed, and it is the same.
    some = again(house, stages=[1])
    assert list(some.maps) == [1]
    assert some.classes is None
    assert torch.equal(some.maps[1], ours.maps[1])


def test_every_weight_is_in_the_file_once(trained: Path, tmp_path: Path) -> None:
    folder = trained / PLAIN_3D
    encoder = import_nnunet(folder, ImportEncoderConfig())
    own = encoder.state_dict()
    weights = load_checkpoint(folder / "fold_0" / "checkpoint_final.pth")["network_weights"]
    kept = {k.removeprefix("network."): v for k, v in own.items()}
    assert {k for k in weights if "all_modules" not in k and "decoder.encoder" not in k} == set(
        kept
    )
    assert all(torch.equal(weights[k], v) for k, v in kept.items())
    assert sum(p.numel() for p in encoder.parameters()) == sum(v.numel() for v in own.values())


def test_a_checkpoint_alone_is_enough(trained: Path, tmp_path: Path) -> None:
    """Moved away from its folder it still says all of it; a fold's folder will do as well."""
    file = tmp_path / "moved.pth"
    shutil.copy(trained / PLAIN_3D / "fold_0" / "checkpoint_best.pth", file)
    alone = import_nnunet(file, ImportEncoderConfig())
    folder = import_nnunet(trained / PLAIN_3D / "fold_0", ImportEncoderConfig())
    assert alone.config.architecture == folder.config.architecture
    assert alone.config.recipe == folder.config.recipe
    assert alone.config.classes == ("background", "lung", "lesion")
    assert (alone.config.dataset, alone.config.trainer) == ("Dataset501_Phantoms", "nnUNetTrainer")


def test_settings_accept_either_form(trained: Path, tmp_path: Path) -> None:
    raw, sha_raw = open_encoder(ModelConfig(encoder=trained / PLAIN_3D, pooling="grid"))
    save_encoder(raw, tmp_path)
    imported, sha_imported = open_encoder(ModelConfig(encoder=tmp_path, pooling="grid"))
    assert sha_raw == sha_imported
    assert raw.config == imported.config
    with pytest.raises(ConfigError, match=r"spatial_dims is 2, but .* in 3 dimensions"):
        open_encoder(ModelConfig(encoder=tmp_path, spatial_dims=2))
    with pytest.raises(ConfigError, match=r"spatial_dims is 3, but .* in 2 dimensions"):
        open_encoder(ModelConfig(encoder=trained / PLAIN_2D))
    with pytest.raises(ConfigError, match=r"spacing_zyx_mm cannot be set"):
        open_encoder(ModelConfig(encoder=tmp_path, spacing_zyx_mm=(1.0, 1.0, 1.0)))


def test_the_command_says_what_it_imported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = raw_images(trained).parents[1]
    where = ["--output-dir", str(tmp_path), "--nnunet-raw", str(raw)]
    with pytest.raises(SystemExit) as ended:
        main(["import-encoder", str(trained / PLAIN_3D), *where])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for words in ("PlainConvUNet in 3 dimensions", "Dataset501_Phantoms", "lesion", "CTNormal"):
        assert words in out
    assert "LPS for it (all 5 training images" in out
    about = json.loads((tmp_path / "encoder.json").read_text())["nnunet"]
    assert about["recipe"]["orientation"] == ORIENTATION
    assert about["source_sha256"]


def test_orientation_is_checked_against_the_training_images(trained: Path, tmp_path: Path) -> None:
    raw = raw_images(trained).parents[1]
    with pytest.raises(ConfigError, match=r"set to RAS, but its training images are stored LPS"):
        import_nnunet(trained / PLAIN_3D, ImportEncoderConfig(orientation="RAS", nnunet_raw=raw))
    with pytest.raises(ConfigError, match="three letters"):
        import_nnunet(trained / PLAIN_3D, ImportEncoderConfig(orientation="XYZ"))
    assert (
        import_nnunet(trained / PLAIN_3D, ImportEncoderConfig(orientation="RAS"))
    ).config.recipe.orientation == "RAS"


def test_a_fold_is_chosen_or_refused(trained: Path) -> None:
    assert read_trained_model(trained / PLAIN_3D).folds == ("0",)
    with pytest.raises(CheckpointError, match="no fold 4, only 0"):
        read_trained_model(trained / PLAIN_3D, ["4"])
    with pytest.raises(CheckpointError, match=r"checkpoint_latest\.pth"):
        read_trained_model(trained / PLAIN_3D, None, "checkpoint_latest.pth")


def copy_of(trained: Path, tmp_path: Path, kind: str = PLAIN_3D) -> Path:
    folder = tmp_path / kind
    shutil.copytree(trained / kind, folder)
    return folder


def change_plans(folder: Path, **arguments: Any) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= arguments
    (folder / "plans.json").write_text(json.dumps(plans))


def test_plans_that_disagree_with_the_weights_name_both(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    change_plans(folder, features_per_stage=[4, 8, 16, 24])
    with pytest.raises(
        CheckpointError,
        match=r"plans and weights disagree: encoder.* shape \(32, .* checkpoint, \(24, .* plans",
    ):
        import_nnunet(folder, ImportEncoderConfig())
    change_plans(folder, n_stages=5)
    with pytest.raises(CheckpointError, match="do not describe a PlainConvUNet"):
        import_nnunet(folder, ImportEncoderConfig())


def resave(folder: Path, **changed: Any) -> Path:
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = load_checkpoint(file)
    torch.save({**content, **changed}, file)
    return file


def test_a_trainer_with_its_own_network_is_refused_by_name(trained: Path, tmp_path: Path) -> None:
    """nnU-Net's own batch-norm trainer changes the network and not the plans."""
    folder = copy_of(trained, tmp_path)
    weights = load_checkpoint(folder / "fold_0" / "checkpoint_final.pth")["network_weights"]
    more = {
        k.replace("weight", "running_mean"): v.clone()
        for k, v in weights.items()
        if k.endswith("norm.weight")
    }
    resave(folder, trainer_name="nnUNetTrainerBN", network_weights={**weights, **more})
    with pytest.raises(CheckpointError, match=r"trainer nnUNetTrainerBN built a network that its"):
        import_nnunet(folder, ImportEncoderConfig())
    # A trainer that only trains longer or otherwise leaves the network alone.
    resave(folder, trainer_name="nnUNetTrainerDA5", network_weights=dict(weights))
    assert import_nnunet(folder, ImportEncoderConfig()).config.trainer == "nnUNetTrainerDA5"


def test_no_weight_is_left_out_or_made_up(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    weights = dict(load_checkpoint(folder / "fold_0" / "checkpoint_final.pth")["network_weights"])
    name = "encoder.stages.1.0.convs.0.conv.weight"
    resave(folder, network_weights={k: v for k, v in weights.items() if k != name})
    with pytest.raises(CheckpointError, match=rf"{name} of the plans' network is not in"):
        import_nnunet(folder, ImportEncoderConfig())
    twin = f"decoder.{name}"
    resave(folder, network_weights={**weights, twin: weights[twin] + 1})
    with pytest.raises(CheckpointError, match="are one tensor in the network, but differ"):
        import_nnunet(folder, ImportEncoderConfig())
    parallel = {f"module.{k}": v for k, v in weights.items()}
    resave(folder, network_weights=parallel)
    import_nnunet(folder, ImportEncoderConfig())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('it ran')",)


def test_nothing_in_a_checkpoint_is_ever_run(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    file = resave(folder, logging=Evil())
    with pytest.raises(CheckpointError, match=r"would run code when loaded \(.*exec\)"):
        import_nnunet(folder, ImportEncoderConfig())
    with file.open("wb") as handle:  # a bare pickle, as Python writes it
        pickle.dump({"network_weights": Evil(), "init_args": {}}, handle)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        import_nnunet(folder, ImportEncoderConfig())


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "dynamic_network_architectures.architectures.unet.os",
        "dynamic_network_architectures.architectures.primus.Primus",
        "torch.nn.Linear",
        "ctscribe.model.vlm.VLM",
    ],
)
def test_plans_cannot_name_another_network(trained: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(trained, tmp_path)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = name
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(CheckpointError, match=f"name the network {name}"):
        import_nnunet(folder, ImportEncoderConfig())


@pytest.mark.parametrize(
    "name", ["os.system", "torch.nn.functional.relu", "torch.hub.load", "torch.nn.x.exec"]
)
def test_plans_cannot_name_another_layer(trained: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(trained, tmp_path)
    change_plans(folder, nonlin=name)
    with pytest.raises(CheckpointError, match=f"{name} as a part of the network"):
        import_nnunet(folder, ImportEncoderConfig())


def test_several_channels_and_cascades_are_refused(trained: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path)
    dataset = json.loads((folder / "dataset.json").read_text())
    several = {**dataset, "channel_names": {"0": "CT", "1": "PET"}}
    (folder / "dataset.json").write_text(json.dumps(several))
    with pytest.raises(CheckpointError, match=r"reads 2 channels \(CT, PET\); a CT has one"):
        import_nnunet(folder, ImportEncoderConfig())
    (folder / "dataset.json").write_text(json.dumps(dataset))
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(CheckpointError, match="second stage of a cascade"):
        import_nnunet(folder, ImportEncoderConfig())


def test_other_files_are_named_for_what_they_are(trained: Path, tmp_path: Path) -> None:
    def refused(path: Path, *words: str) -> None:
        with pytest.raises(CheckpointError) as caught:
            read_trained_model(path)
        assert all(word in str(caught.value) for word in words), caught.value
        assert "\n" not in str(caught.value)

    file = tmp_path / "model.pth"
    torch.save({"state_dict": {}, "epoch": 3, "plot_stuff": 0}, file)
    refused(file, "nnU-Net v1")
    torch.save({"model": {}, "optimizer": {}, "epoch": 3}, file)
    refused(file, "it holds model, optimizer, epoch")
    torch.save([torch.zeros(1)], file)
    refused(file, "holds a list")
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    refused(file, "Keras")
    file.write_bytes(b"")
    refused(file, "no checkpoint of PyTorch")
    file.write_bytes((trained / PLAIN_3D / "fold_0" / "checkpoint_final.pth").read_bytes()[:50_000])
    refused(file, "damaged")
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"\x08\x07\x12\x04")
    refused(onnx, ".onnx")
    refused(tmp_path / "nowhere", "no such file or folder")
    refused(tmp_path, "no plans.json")
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "model_final_checkpoint.model.pkl").write_bytes(b"x")
    refused(tmp_path, "nnU-Net v1")


def test_numbers_of_old_and_new_numpy_are_plain_values(trained: Path, tmp_path: Path) -> None:
    """A checkpoint's losses are numpy numbers, under the module names of numpy 1 and of numpy 2."""
    folder = copy_of(trained, tmp_path)
    file = resave(folder, _best_ema=np.float64(0.5), logging={"loss": [np.float32(1.5)]})
    assert load_checkpoint(file)["logging"]["loss"][0] == np.float32(1.5)
    old = file.read_bytes()
    assert b"numpy._core.multiarray" in old
    # Names of the same length would keep the archive whole; write the pickle anew instead.
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            if name.endswith("data.pkl"):
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            archive.writestr(name, data)
    assert load_checkpoint(file)["_best_ema"] == np.float64(0.5)


def test_regions_and_an_ignore_label_make_the_channels_that_nnunet_makes(trained: Path) -> None:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    model = read_trained_model(trained / PLAIN_3D)
    for labels in (
        {"background": 0, "lung": [1, 2], "lesion": [2]},
        {"background": 0, "b": 2, "a": 1, "ignore": 3},
        {"background": 0, "lung": 1},
    ):
        dataset = {**model.dataset, "labels": labels}
        if any(isinstance(v, list) for v in labels.values()):
            dataset["regions_class_order"] = [1, 2]
        manager = PlansManager(model.plans).get_label_manager(dataset)
        names = class_names(replace(model, dataset=dataset))
        assert len(names) == manager.num_segmentation_heads


def test_real_plans_in_the_old_format_build() -> None:
    """Plans of networks that nnU-Net trained on abdominal CTs, and two with networks of others."""
    if not REAL_PLANS.is_dir():
        pytest.skip("the plans are not in ../shared/data")
    built = {}
    for file in sorted(REAL_PLANS.glob("*.json")):
        plans = json.loads(file.read_text())
        for name in plans["configurations"]:
            own = plans["configurations"][plans["configurations"][name].get("inherits_from", name)]
            if own["UNet_class_name"] != "PlainConvUNet":
                with pytest.raises(CheckpointError, match=own["UNet_class_name"]):
                    configuration_of(plans, name, file)
                continue
            architecture = configuration_of(plans, name, file)["architecture"]
            network = network_from(architecture, classes=14, file=file)
            built[plans["dataset_name"], name] = sum(p.numel() for p in network.parameters())
    assert {name for _, name in built} >= {"2d", "3d_lowres"}
    assert all(n > 30_000_000 for n in built.values())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_patches_are_put_together_in_their_places(data: st.DataObject) -> None:
    """What every patch agrees on comes out as it is, on every stage's grid."""
    dims = data.draw(st.integers(2, 3))
    draw = st.lists(st.integers(1, 5), min_size=dims, max_size=dims)
    multiple = (4,) * dims
    tile = tuple(4 * n for n in data.draw(draw))
    space = tuple(4 * max(n, t // 4) for n, t in zip(data.draw(draw), tile, strict=True))
    image = torch.randn(1, 2, *space, dtype=torch.float64)
    shrink = torch.nn.functional.avg_pool2d if dims == 2 else torch.nn.functional.avg_pool3d

    def look(patch: torch.Tensor) -> dict[str, torch.Tensor]:
        assert tuple(patch.shape[2:]) == tile
        return {"0": patch, "2": shrink(patch, 4)}

    whole = _in_patches(image, tile, multiple, look)
    torch.testing.assert_close(whole["0"], image)
    torch.testing.assert_close(whole["2"], shrink(image, 4))


def test_a_large_image_is_predicted_as_nnunet_predicts(trained: Path) -> None:
    """nnU-Net keeps logits and weights in 16 bits: close, not equal."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = read_trained_model(trained / PLAIN_3D)
    encoder = import_trained(model, orientation="RAS")
    tile, multiple = encoder.config.tile, encoder.config.multiple
    size = [t + 2 * multiple[1] if axis == 1 else t for axis, t in enumerate(tile)]
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = encoder(image, stages=[], segment=True).classes
    assert ours is not None
    predictor = nnUNetPredictor(
        use_gaussian=True, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(model.plans)
    predictor.manual_initialization(
        theirs(trained / PLAIN_3D),
        plans,
        plans.get_configuration("3d_fullres"),
        None,
        model.dataset,
        "nnUNetTrainer",
        None,
    )
    predictor.network.decoder.deep_supervision = False
    logits = predictor.predict_sliding_window_return_logits(image[0])
    expected = logits.float().softmax(0)
    inner = (slice(8, -8),) * 3  # at a patch's corners its weights underflow 16 bits
    torch.testing.assert_close(
        ours[0][(slice(None), *inner)], expected[(slice(None), *inner)], atol=0.02, rtol=0
    )
