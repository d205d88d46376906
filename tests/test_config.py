"""Settings: one default each, one conversion for flags, environment and YAML, errors that name."""

import dataclasses
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ctscribe import settings
from ctscribe.config import (
    SECTIONS,
    AlignConfig,
    CaptionConfig,
    DemoConfig,
    DoctorConfig,
    EvaluateConfig,
    ModelConfig,
    Paths,
    ReportConfig,
    SplitConfig,
)
from ctscribe.errors import ConfigError
from ctscribe.resolve import read_settings, require, resolve
from ctscribe.settings import Config, convert, flag, options

REPO = Path(__file__).parents[1]
CLASSES: list[type[Config]] = [Paths, *SECTIONS.values()]
BACKED = [AlignConfig, CaptionConfig, ReportConfig, EvaluateConfig, DemoConfig, DoctorConfig]
OLD_KEYS = [
    "caption_csv_train",
    "caption_csv_val",
    "caption_prompt_json",
    "nnunet_raw",
    "nnunet_preprocessed",
    "nnunet_results",
    "nnunet_data",
    "nnunet_encoder_checkpoint",
    "mamba_hf_model",
    "use_cmi",
    "cmi_compress_to",
    "cmi_d_state",
    "roi_side",
    "use_pooling",
    "pool_size",
    "encoder_output_stage",
    "encoder_target_spatial",
    "spatial_dims",
    "global_pool_size",
    "global_pool_size_3d",
    "local_crop_size",
    "local_crop_size_3d",
    "ablation_mode",
]


def yaml_file(folder: Path, text: str) -> Path:
    file = folder / "paths.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def from_yaml(folder: Path, cls: type[Any], text: str, **environ: str) -> Any:
    return resolve(cls, {}, read_settings(yaml_file(folder, text)), environ)


def fails(call: Any, *words: str) -> None:
    """The call is refused in one line that holds every word."""
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "Fix: " in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_setting_has_one_sentence_and_a_default_that_converts_to_itself(
    cls: type[Config],
) -> None:
    for f in dataclasses.fields(cls):
        assert f.name == "model" or f.name in options(cls), f"{f.name} is no setting()"
    for option in options(cls).values():
        assert option.setting.help.endswith("."), option.name
        assert option.setting.help.count(". ") == 0, option.name
        if option.default is not None:
            converted = convert(option.default, option, flag(option.name))
            assert converted == option.default
            assert type(converted) is type(option.default) or isinstance(option.default, Path)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_range_is_enforced_and_named(cls: type[Config]) -> None:
    for option in options(cls).values():
        about = option.setting
        if about.low is None or about.high is None:
            assert option.kind not in (int, float), f"{option.name} has no range"
            continue
        for outside in (about.low - 1, about.high + 1):
            value = f"{outside:.17g}" if option.kind in (int, float) else f"1,{outside:.17g}"
            fails(
                lambda v=value, o=option: convert(v, o, flag(o.name)),
                flag(option.name),
                f"from {about.range}",
            )
            if option.kind is int:
                fails(lambda v=int(outside), o=option: cls(**{o.name: v}), flag(option.name))


def test_defaults_of_the_old_commands() -> None:
    caption = CaptionConfig()
    assert (caption.epochs, caption.batch_size, caption.lr) == (30, 1, 2e-5)
    assert (caption.model.max_visual_tokens, caption.max_text_len) == (96, 512)
    assert caption.final_checkpoint == Path("outputs/vision_bridge_vlm_final.pt")
    assert ReportConfig().checkpoint == caption.final_checkpoint
    assert ReportConfig().max_visual_tokens is None


def test_flags_of_model_and_command_do_not_collide() -> None:
    for cls in (AlignConfig, CaptionConfig):
        assert not set(options(cls)) & set(options(ModelConfig))


def test_shipped_file_has_every_old_key_and_changes_no_default() -> None:
    file = REPO / "config" / "paths.yaml"
    text = file.read_text(encoding="utf-8")
    for key in OLD_KEYS:
        assert f"\n{key}:" in text
    read = read_settings(file)
    for cls in SECTIONS.values():
        assert resolve(cls, {}, read, {}) == cls()


def test_no_file_means_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings().file is None
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "paths.yaml").write_text("caption: {epochs: 3}")
    assert resolve(CaptionConfig, {}, read_settings(), {}).epochs == 3


def test_flag_beats_environment_beats_section_beats_top_level(tmp_path: Path) -> None:
    top = "mamba_hf_model: /top\ncaption_csv_train: top.csv\n"
    read = read_settings(yaml_file(tmp_path, top + "model: {mamba_model: /section}\n"))
    only_top = read_settings(yaml_file(tmp_path, top))
    env = {"MAMBA_MODEL": "/env"}

    def llm(flags: dict[str, str], read: Any, environ: dict[str, str]) -> Path | None:
        return resolve(CaptionConfig, flags, read, environ).model.mamba_model

    assert llm({"mamba_model": "/flag"}, read, env) == Path("/flag")
    assert llm({}, read, env) == Path("/env")
    assert llm({}, read, {"MAMBA_MODEL": ""}) == Path("/section")
    assert llm({}, only_top, {}) == Path("/top")
    assert resolve(CaptionConfig, {}, only_top, {}).csv == Path("top.csv")
    assert resolve(AlignConfig, {}, only_top, {}).csv_train == Path("top.csv")
    # A report's language model comes from its checkpoint, or from the flag.
    assert resolve(ReportConfig, {}, read, env).mamba_model is None


def test_environment_of_the_launchers(tmp_path: Path) -> None:
    none = read_settings(yaml_file(tmp_path, ""))
    low = resolve(CaptionConfig, {}, none, {"LOW_VRAM": "1", "LLM_8BIT": "1", "STAGE2_EPOCHS": "7"})
    assert (low.model.max_visual_tokens, low.max_text_len) == (64, 256)
    assert low.llm_8bit
    assert not low.llm_4bit
    assert resolve(CaptionConfig, {}, none, {"LLM_4BIT": "1"}).llm_4bit
    assert low.epochs == 7
    off = resolve(CaptionConfig, {}, none, {"LOW_VRAM": "0", "LLM_8BIT": "0", "STAGE2_EPOCHS": ""})
    assert off == CaptionConfig()
    flags = {"max_text_len": "400", "llm_8bit": False}
    mixed = resolve(CaptionConfig, flags, none, {"LOW_VRAM": "1", "LLM_8BIT": "1"})
    assert (mixed.model.max_visual_tokens, mixed.max_text_len, mixed.llm_8bit) == (64, 400, False)
    fails(lambda: resolve(CaptionConfig, {}, none, {"LOW_VRAM": "much"}), "LOW_VRAM", "much")
    fails(
        lambda: resolve(CaptionConfig, {}, none, {"STAGE2_EPOCHS": "0"}),
        "STAGE2_EPOCHS",
        "--epochs",
        "1 to 10000",
    )


def test_unknown_keys_name_the_nearest_known_one(tmp_path: Path) -> None:
    fails(
        lambda: from_yaml(tmp_path, CaptionConfig, "caption_csv_trian: a.csv"),
        "paths.yaml",
        "caption_csv_trian",
        "did you mean caption_csv_train?",
    )
    fails(
        lambda: from_yaml(tmp_path, CaptionConfig, "caption: {learning: 1}"),
        "caption.learning",
        "did you mean caption.",
    )
    fails(lambda: from_yaml(tmp_path, CaptionConfig, "epochs: 3"), "unknown key epochs")


def test_yaml_numbers_without_a_dot_are_numbers(tmp_path: Path) -> None:
    config = from_yaml(tmp_path, CaptionConfig, "caption: {lr: 2e-5, batch_size: '4'}")
    assert config.lr == 2e-5
    assert config.batch_size == 4
    model = from_yaml(tmp_path, CaptionConfig, "pool_size: [2, 3, 4]").model
    assert model.grid_size == (2, 3, 4)


@pytest.mark.parametrize(
    ("cls", "name", "value", "wanted"),
    [
        (CaptionConfig, "epochs", "many", "whole number from 1 to 10000"),
        (CaptionConfig, "epochs", 2.5, "whole number"),
        (CaptionConfig, "epochs", True, "whole number"),
        (CaptionConfig, "epochs", "", "whole number"),
        (CaptionConfig, "lr", "nan", "1e-08 to 1"),
        (CaptionConfig, "lr", [1], "a number"),
        (CaptionConfig, "device", "gpu", "one of auto, cpu, cuda"),
        (CaptionConfig, "from_scratch", "maybe", "true or false"),
        (ModelConfig, "pool_size", "4,a,4", "numbers such as 4,4,4"),
        (ModelConfig, "pool_size", True, "numbers such as 4,4,4"),
        (ModelConfig, "pool_size", "4,4,0", "1 to 64"),
    ],
)
def test_values_of_another_kind(cls: type[Config], name: str, value: Any, wanted: str) -> None:
    fails(lambda: convert(value, options(cls)[name], flag(name)), flag(name), wanted)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"- a\n- b\n", "holds no settings"),
        (b"caption: 3\n", "caption holds no settings"),
        ("caption_csv_train: 数据.csv".encode("gbk"), "not UTF-8"),
        (b'caption_csv_train: "D:\\new"\nx: [', "without double quotes"),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    fails(lambda: read_settings(file), "bad.yaml", word)


def test_file_that_is_missing(tmp_path: Path) -> None:
    fails(lambda: read_settings(tmp_path / "none.yaml"), "none.yaml", "no such file", "--config")


@pytest.mark.parametrize("path", [r"D:\ct\a.csv", "d:/ct/a.csv"])
def test_windows_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    file = yaml_file(tmp_path, f"nnunet_raw: {path}")
    csv = options(CaptionConfig)["csv"]
    monkeypatch.setattr(settings, "POSIX", True)
    fails(lambda: read_settings(file), "nnunet_raw", path, "not Windows", str(file))
    fails(lambda: convert(path, csv, "--csv"), "--csv", path)
    fails(lambda: CaptionConfig(csv=Path(path)), "--csv", path)
    none = read_settings(yaml_file(tmp_path, ""))
    fails(lambda: resolve(CaptionConfig, {}, none, {"MAMBA_MODEL": path}), "MAMBA_MODEL", path)
    monkeypatch.setattr(settings, "POSIX", False)
    assert str(convert(path, csv, "--csv")) == str(Path(path))
    assert read_settings(yaml_file(tmp_path, f"nnunet_raw: {path}")).top == {
        "nnunet_raw": Path(path)
    }


def test_settings_that_exclude_each_other_are_refused() -> None:
    fails(lambda: ModelConfig(use_pooling=False), "use_pooling", "region")
    fails(lambda: ModelConfig(use_segmentation=False), "use_segmentation", "region")
    assert not ModelConfig(use_segmentation=False, pooling="grid").use_segmentation
    assert not ModelConfig(use_pooling=False, pooling="grid").use_pooling


def test_one_stage_may_be_written_without_a_list(tmp_path: Path) -> None:
    for text in ("3", "[3]", "'3'"):
        read = read_settings(yaml_file(tmp_path, f"encoder_output_stage: {text}"))
        assert resolve(ModelConfig, {}, read, {}).encoder_output_stage == (3,)


def test_shapes_and_windows_must_fit() -> None:
    fails(lambda: ModelConfig(pool_size=(4, 4)), "--pool-size", "2 numbers", "3")
    fails(lambda: ModelConfig(encoder_target_spatial=(8, 8)), "--encoder-target-spatial", "3")
    fails(lambda: ModelConfig(local_crop_size=(8, 8, 8)), "--local-crop-size", "3 numbers", "2")
    assert ModelConfig(spatial_dims=2, pool_size=(4, 4)).grid_size == (4, 4)
    assert ModelConfig(spatial_dims=2).grid_size == (8, 8)
    assert ModelConfig().grid_size == (4, 4, 4)
    fails(lambda: ModelConfig(scan_order="snake"), "--scan-order", "--pooling grid")
    assert ModelConfig(scan_order="snake", pooling="grid").scan_order == "snake"
    fails(lambda: ModelConfig(window_hu=(400.0, -1000.0)), "--window-hu")


def test_beams_and_sampling_exclude_each_other() -> None:
    fails(lambda: ReportConfig(do_sample=True, num_beams=2), "--num-beams", "--do-sample")
    assert ReportConfig(num_beams=2).num_beams == 2
    assert ReportConfig(do_sample=True).num_beams == 1


def test_a_missing_path_names_flag_and_key() -> None:
    fails(lambda: require(CaptionConfig(), "csv"), "--csv", "caption_csv_train")
    fails(lambda: require(SplitConfig(), "input"), "--input")
    assert require(EvaluateConfig(csv=Path("a.csv")), "csv") == Path("a.csv")


@pytest.mark.parametrize("cls", BACKED, ids=lambda c: c.__name__)
def test_the_backend_comes_from_flag_environment_file_and_is_auto(
    cls: type[Any], tmp_path: Path
) -> None:
    text = f"{cls.section}: {{backend: mamba_ssm}}"
    read = read_settings(yaml_file(tmp_path, text))
    env = {"CTSCRIBE_BACKEND": "cuda"}
    assert resolve(cls, {"backend": "torch"}, read, env).backend == "torch"
    assert resolve(cls, {}, read, env).backend == "cuda"
    assert resolve(cls, {}, read, {"CTSCRIBE_BACKEND": ""}).backend == "mamba_ssm"
    assert cls().backend == "auto"
    for name in ("Cuda", "triton"):
        fails(
            lambda n=name: resolve(cls, {}, read, {"CTSCRIBE_BACKEND": n}),
            "CTSCRIBE_BACKEND (--backend)",
            name,
            "one of auto, cuda, torch, mamba_ssm",
        )


@pytest.mark.parametrize("cls", list(SECTIONS.values()), ids=lambda c: c.__name__)
def test_every_setting_is_read_by_something(cls: type[Config]) -> None:
    """A flag that changes nothing would be a lie."""
    package = REPO / "src" / "ctscribe"
    rooms = [f for f in package.rglob("*.py") if f.parent != package]
    files = [*rooms, package / "config.py", package / "model_config.py", package / "cli.py"]
    text = "\n".join(f.read_text(encoding="utf-8") for f in files)
    for name in options(cls):
        read = re.search(rf'\.{name}\b|(require|getattr)\(config, "{name}"', text)
        assert read, f"{cls.__name__}.{name} is read nowhere"
