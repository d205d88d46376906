"""Checkpoints of nnU-Net v2: read without unpickling code, and the network that they describe.

A checkpoint says which network it is of: its plans name one of nnU-Net's two and its arguments,
layers of torch.nn among them. Nothing else is ever looked up by name, and nothing but tensors and
plain values is ever unpickled.
"""

from __future__ import annotations

import codecs
import importlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctscribe.errors import CheckpointError
from ctscribe.model.unet import UNet, UNetPlan

FINAL, BEST = "checkpoint_final.pth", "checkpoint_best.pth"
ARCHITECTURES = ("PlainConvUNet", "ResidualEncoderUNet")
NETWORK_CLASS = re.compile(r"dynamic_network_architectures\.architectures(\.\w+)*")
MODULE_CLASS = re.compile(r"torch\.nn(\.\w+)+")
STOCK_TRAINER = "nnUNetTrainer"
FIX = "give a checkpoint_final.pth that nnU-Net v2 wrote, or the folder that holds plans.json"


@dataclass(frozen=True)
class TrainedNnunet:
    """A trained model of nnU-Net v2, as its files say.

    plans, dataset: plans.json and dataset.json. weights: `network_weights` of each fold, on the
    CPU. mirror_axes: of test-time mirroring. file: the first fold's checkpoint.
    """

    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration: str
    trainer: str
    folds: tuple[str, ...]
    weights: list[dict[str, Tensor]]
    mirror_axes: tuple[int, ...] | None
    epoch: int
    file: Path


def read_trained_model(
    path: Path, folds: Sequence[int | str] | None = None, checkpoint_name: str | None = None
) -> TrainedNnunet:
    """Read a checkpoint file, or a trained-model folder (plans.json, dataset.json, fold_*).

    folds: left out, `fold_all` or else the first there is. checkpoint_name: left out,
    checkpoint_final.pth, or checkpoint_best.pth where training has not ended.
    Raises CheckpointError for a missing, damaged or foreign file, one of nnU-Net v1, and one that
    holds anything but tensors and plain values.
    """
    if path.is_file():
        return _of_files(path, [path], None)
    if not path.is_dir():
        raise CheckpointError("there is no such file or folder", file=path, fix=FIX)
    if not (path / "plans.json").is_file():
        if (path.parent / "plans.json").is_file() and path.name.startswith("fold_"):
            return read_trained_model(path.parent, [path.name.removeprefix("fold_")])
        old = [*path.glob("**/*.model.pkl"), *path.glob("plans*.pkl")]
        raise CheckpointError(
            "this is a model of nnU-Net v1" if old else "the folder has no plans.json",
            file=path,
            fix="train it again with nnU-Net v2" if old else FIX,
        )
    there = sorted(f.name.removeprefix("fold_") for f in path.glob("fold_*") if f.is_dir())
    if not there:
        raise CheckpointError("the folder has no fold_*, so no weights", file=path, fix=FIX)
    chosen = [str(f) for f in folds] if folds else ["all" if "all" in there else there[0]]
    if missing := [fold for fold in chosen if fold not in there]:
        raise CheckpointError(
            f"there is no fold {missing[0]}, only {', '.join(there)}",
            file=path,
            fix=f"give one of {', '.join(there)}",
        )
    return _of_files(path, [_checkpoint(path / f"fold_{f}", checkpoint_name) for f in chosen], path)


def _checkpoint(fold: Path, name: str | None) -> Path:
    for candidate in [name] if name else [FINAL, BEST]:
        if (fold / candidate).is_file():
            return fold / candidate
    raise CheckpointError(
        f"there is no {name or f'{FINAL} or {BEST}'} in this fold",
        file=fold,
        fix="train the fold to its end, or give another fold",
    )


def _of_files(path: Path, files: Sequence[Path], folder: Path | None) -> TrainedNnunet:
    read = [load_checkpoint(file) for file in files]
    first = read[0]
    init = first["init_args"]
    plans, dataset = init.get("plans"), init.get("dataset_json")
    if folder is not None:
        plans = _read_json(folder / "plans.json")
        if (folder / "dataset.json").is_file():
            dataset = _read_json(folder / "dataset.json")
    if not isinstance(plans, dict) or not isinstance(dataset, dict):
        raise CheckpointError(
            "it does not say which plans and data set it was trained with",
            file=files[0],
            fix="give the folder that holds plans.json and dataset.json",
        )
    axes = first.get("inference_allowed_mirroring_axes")
    return TrainedNnunet(
        plans=plans,
        dataset=dataset,
        configuration=str(init.get("configuration")),
        trainer=str(first.get("trainer_name")),
        folds=tuple(str(c["init_args"].get("fold")) for c in read),
        weights=[_plain_names(c["network_weights"]) for c in read],
        mirror_axes=None if axes is None else tuple(int(a) for a in axes),
        epoch=int(first.get("current_epoch", 0)),
        file=files[0],
    )


def load_checkpoint(file: Path) -> dict[str, Any]:
    """The content of a checkpoint of nnU-Net v2, on the CPU, with nothing but plain values in it.

    Raises CheckpointError as `read_trained_model` does.
    """
    if not file.is_file():
        raise CheckpointError("there is no such file", file=file, fix=FIX)
    try:
        with plain_values_only():
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises whatever its parts do
        raise _unreadable(file, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"it holds a {type(content).__name__}, not a checkpoint of nnU-Net v2",
            file=file,
            fix=FIX,
        )
    if "network_weights" not in content or not isinstance(content.get("init_args"), dict):
        if "state_dict" in content and "plot_stuff" in content:
            raise CheckpointError(
                "this is a checkpoint of nnU-Net v1",
                file=file,
                fix="train it again with nnU-Net v2",
            )
        keys = ", ".join(map(str, list(content)[:4])) or "nothing"
        raise CheckpointError(
            f"not a checkpoint of nnU-Net v2: it holds {keys}, not network_weights and init_args",
            file=file,
            fix=FIX,
        )
    # The file was mapped, so that the optimiser's state, twice the weights, is never read.
    content.pop("optimizer_state", None)
    weights = content["network_weights"]
    return {**content, "network_weights": {k: v.clone() for k, v in weights.items()}}


@contextmanager
def plain_values_only() -> Iterator[None]:
    """While it lasts, `torch.load(weights_only=True)` accepts what nnU-Net writes, and no more.

    Beside tensors these are numbers of numpy (losses, Dice), under the names of numpy 1 and 2.
    """
    scalar = importlib.import_module("numpy._core.multiarray").scalar
    allowed: list[Any] = [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        np.dtypes.Float32DType,
        np.dtypes.Float64DType,
        (codecs.encode, "_codecs.encode"),
    ]
    with torch.serialization.safe_globals(allowed):
        yield


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    start = file.read_bytes()[:8] if file.stat().st_size else b""
    text = str(error)
    if named := re.search(r"(?:Unsupported global: )?GLOBAL ([\w.]+)", text):
        return CheckpointError(
            f"it would run code when loaded ({named[1]}), which is never done",
            file=file,
            fix="give a checkpoint as nnU-Net itself writes it; do not use this file",
        )
    foreign = {b"\x89HDF": "a Keras model (HDF5)", b"<?xm": "XML", b"{": "JSON"}
    what = next((name for magic, name in foreign.items() if start.startswith(magic)), None)
    if file.suffix in (".onnx", ".safetensors", ".h5", ".ckpt", ".model", ".pkl"):
        what = what or f"a {file.suffix} file"
    known = start[:2] in (b"PK", b"\x80\x02")
    reason = what or ("damaged" if known else "no checkpoint of PyTorch")
    lines = text.strip().splitlines() or [type(error).__name__]
    return CheckpointError(
        f"not a checkpoint of nnU-Net v2, or unreadable: it is {reason} ({lines[0][:120]})",
        file=file,
        fix=FIX,
    )


def _plain_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what DataParallel and torch.compile put before them."""
    return {k.removeprefix("module.").removeprefix("_orig_mod."): v for k, v in weights.items()}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"it cannot be read ({error})", file=file, fix="restore it from a backup"
        ) from error
    return content


def configuration_of(plans: dict[str, Any], name: str, file: Path | None = None) -> dict[str, Any]:
    """One configuration of plans (2d, 3d_fullres, …), with what it inherits, in today's format.

    Plans of before 2024 name the parts of the architecture one by one; they are put together as
    nnU-Net's own `ConfigurationManager` does. Raises CheckpointError for one that is not there.
    """
    known = plans.get("configurations", {})
    if name not in known:
        raise CheckpointError(
            f"the plans have no configuration {name}, only {', '.join(known)}", file=file, fix=FIX
        )
    own = dict(known[name])
    if "inherits_from" in own:
        own = {**configuration_of(plans, own.pop("inherits_from"), file), **own}
    if "architecture" not in own:
        own["architecture"] = _old_architecture(own, file)
    return own


def _old_architecture(own: dict[str, Any], file: Path | None) -> dict[str, Any]:
    kind, dims = own.get("UNet_class_name"), len(own["patch_size"])
    if kind not in ARCHITECTURES:
        raise _unknown_network(str(kind), file)
    stages = len(own["n_conv_per_stage_encoder"])
    blocks = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    base, most = own["UNet_base_num_features"], own["unet_max_num_features"]
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(base * 2**i, most) for i in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": own["conv_kernel_sizes"],
            "strides": own["pool_op_kernel_sizes"],
            blocks: own["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": own["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _unknown_network(name: str, file: Path | None) -> CheckpointError:
    return CheckpointError(
        f"its plans name the network {name}, which is not nnU-Net's own",
        file=file,
        fix=f"use a model with one of nnU-Net's networks: {' or '.join(ARCHITECTURES)}",
    )


def network_from(architecture: dict[str, Any], *, classes: int, file: Path | None = None) -> UNet:
    """The network, untrained, of a configuration's `architecture`, for one input channel.

    Raises CheckpointError for a network that is not nnU-Net's own, for layers outside torch.nn, and
    for arguments that do not describe a network.
    """
    name = str(architecture.get("network_class_name"))
    kind = name.rpartition(".")[2]
    if not NETWORK_CLASS.fullmatch(name) or kind not in ARCHITECTURES:
        raise _unknown_network(name, file)
    arguments = dict(architecture["arch_kwargs"])
    try:
        return UNet(_plan(arguments, kind == "ResidualEncoderUNet", file), classes)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"its plans do not describe a {kind} ({str(error).splitlines()[0]})",
            file=file,
            fix="restore plans.json as nnU-Net wrote it",
        ) from error


def _plan(arguments: dict[str, Any], residual: bool, file: Path | None) -> UNetPlan:
    stages = int(arguments.pop("n_stages"))
    dims = {"Conv2d": 2, "Conv3d": 3}[_layer(arguments.pop("conv_op"), file).__name__]

    def each(value: Any, n: int = stages) -> tuple[int, ...]:
        return (
            tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),) * n
        )

    def axes(name: str) -> tuple[tuple[int, ...], ...]:
        value = arguments.pop(name)
        listed = value if isinstance(value, list | tuple) else [value] * stages
        return tuple(each(v, dims) for v in listed)

    def layer(name: str) -> Any:
        """Makes a layer with the arguments beside its name; None where there is none."""
        kind, options = arguments.pop(name, None), arguments.pop(f"{name}_kwargs", None) or {}
        return None if kind is None else partial(_layer(kind, file), **options)

    plan = UNetPlan(
        dims=dims,
        residual=residual,
        features=each(arguments.pop("features_per_stage")),
        kernels=axes("kernel_sizes"),
        strides=axes("strides"),
        blocks=each(arguments.pop("n_blocks_per_stage" if residual else "n_conv_per_stage")),
        decoder_blocks=each(arguments.pop("n_conv_per_stage_decoder"), stages - 1),
        bias=bool(arguments.pop("conv_bias", False)),
        norm=layer("norm_op"),
        act=layer("nonlin"),
        drop=layer("dropout_op"),
        act_first=bool(arguments.pop("nonlin_first", False)),
        stem=arguments.pop("stem_channels", None),
    )
    # What would make another network must not pass unnoticed.
    if unknown := sorted(set(arguments) - {"deep_supervision"}):
        raise ValueError(f"{unknown[0]} is not known here")
    if not all(
        len(of) == stages for of in (plan.features, plan.kernels, plan.strides, plan.blocks)
    ):
        raise ValueError(f"n_stages is {stages}, but not all of its lists are as long")
    return plan


def _layer(name: Any, file: Path | None) -> type[nn.Module]:
    """A class of torch.nn by its dotted name, and nothing else."""
    found: Any = None
    if MODULE_CLASS.fullmatch(str(name)):
        found = getattr(torch.nn, str(name).rpartition(".")[2], None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise CheckpointError(
            f"its plans name {name} as a part of the network, which is no layer of torch.nn",
            file=file,
            fix="restore plans.json as nnU-Net wrote it; do not use plans of unknown origin",
        )
    return found


def class_names(trained: TrainedNnunet) -> tuple[str, ...]:
    """What each output channel of the network stands for, from dataset.json's labels.

    Labels make one channel each (the first is background), regions one each without background.
    """
    labels = _labels(trained)
    if has_regions(trained):
        return tuple(name for name, values in labels.items() if set(values) != {0})
    return tuple(sorted(labels, key=lambda name: int(labels[name][0])))


def has_regions(trained: TrainedNnunet) -> bool:
    """Whether its classes overlap: some label stands for several values."""
    return any(len(values) > 1 for values in _labels(trained).values())


def _labels(trained: TrainedNnunet) -> dict[str, tuple[Any, ...]]:
    return {
        name: tuple(value) if isinstance(value, list | tuple) else (value,)
        for name, value in trained.dataset.get("labels", {}).items()
        if name != "ignore"
    }


def build_network(trained: TrainedNnunet, *, fold: int = 0) -> UNet:
    """The network of a trained model with the weights of one of its folds, every key in its place.

    Raises CheckpointError where plans, data set and weights disagree, naming both sides.
    """
    configuration = configuration_of(trained.plans, trained.configuration, trained.file)
    if configuration.get("previous_stage"):
        raise CheckpointError(
            f"{trained.configuration} is the second stage of a cascade, which reads the "
            f"segmentation of {configuration['previous_stage']} beside the CT",
            file=trained.file,
            fix=f"import {configuration['previous_stage']} or 3d_fullres instead",
        )
    channels = trained.dataset.get("channel_names") or trained.dataset.get("modality") or {"0": ""}
    if len(channels) != 1:
        listed = ", ".join(map(str, channels.values()))
        raise CheckpointError(
            f"it reads {len(channels)} channels ({listed}); a CT has one",
            file=trained.file,
            fix="train nnU-Net on the CT alone",
        )
    network = network_from(
        configuration["architecture"], classes=len(class_names(trained)), file=trained.file
    )
    _load(network, trained.weights[fold], trained)
    return network.eval()


def _load(network: UNet, weights: dict[str, Tensor], trained: TrainedNnunet) -> None:
    """Strictly: every tensor of the file is one of the network's, and the other way round."""
    own = network.state_dict()
    names = {name: _own_name(name) for name in weights}
    wrong = [f"{k} of the plans' network is not in the checkpoint" for k in own if k not in weights]
    wrong += [
        f"{k} of the checkpoint is not in the plans' network" for k in names if names[k] not in own
    ]
    wrong += [
        f"{k} has shape {tuple(v.shape)} in the checkpoint, {tuple(own[names[k]].shape)} by the "
        "plans"
        for k, v in weights.items()
        if names[k] in own and own[names[k]].shape != v.shape
    ]
    if wrong:
        raise _disagreement(wrong, trained)
    for name, tensor in weights.items():
        if name != names[name] and not torch.equal(tensor, weights[names[name]]):
            raise CheckpointError(
                f"{names[name]} and {name} are one tensor in the network, but differ in the file",
                file=trained.file,
                fix="restore the checkpoint from a backup",
            )
    network.load_state_dict({k: v for k, v in weights.items() if k in own})


def _own_name(name: str) -> str:
    """The one name of a tensor that nnU-Net's network has under several.

    A block's layers stand there a second time, in order, as `all_modules`, and the encoder a second
    time in the decoder.
    """
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    return re.sub(r"all_modules\.(\d+)\.", lambda m: "conv." if m[1] == "0" else "norm.", name)


def _disagreement(wrong: list[str], trained: TrainedNnunet) -> CheckpointError:
    more = f" and {len(wrong) - 2} more" if len(wrong) > 2 else ""
    who = "plans and weights disagree"
    fix = "give the plans.json and dataset.json that this checkpoint was trained with"
    if trained.trainer != STOCK_TRAINER:
        who = f"the trainer {trained.trainer} built a network that its plans do not describe"
        fix = f"use a model whose trainer leaves the network to the plans, as {STOCK_TRAINER}"
    return CheckpointError(f"{who}: {'; '.join(wrong[:2])}{more}", file=trained.file, fix=fix)
