"""The commands of a user, in their order, on a few phantoms with the bundled parts."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctscribe.cli import main
from ctscribe.config import AlignConfig, CaptionConfig, ModelConfig, ReportConfig
from ctscribe.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    GateError,
    GenerationError,
)
from ctscribe.evaluation.report import run_report
from ctscribe.evaluation.run import open_vlm
from ctscribe.generation.decode import Generated
from ctscribe.generation.write import Decoding, write_reports
from ctscribe.imaging.nifti import read_volume, write_volume
from ctscribe.model.checkpoint import load_tensors, save_tensors
from ctscribe.model.encoder import Encoder, EncoderConfig
from ctscribe.model.encoders import save_encoder
from ctscribe.model.vlm import VLM, load_vision
from ctscribe.phantom.dataset import make_dataset
from ctscribe.reports.language import QUESTIONS
from ctscribe.tables.manifest import load_rows
from ctscribe.training import setup
from ctscribe.training.align import run_align
from ctscribe.training.caption import run_caption
from ctscribe.training.data import collate, read_study, tokenize_rows
from ctscribe.training.graphs import GraphedStep

CURVE = Path(__file__).parent / "training" / "loss_curve.json"
ALIGN = {"epochs": 6, "batch_size": 8, "lr": 2e-3, "device": "cpu", "ignore_gate": True}
CAPTION: dict[str, Any] = {"epochs": 1, "batch_size": 8, "lr": 3e-4, "device": "cpu"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cleaned and split phantoms, and both stages trained on them."""
    out = tmp_path_factory.mktemp("work")
    make_dataset(out / "data", n_studies=26, seed=5, workers=1)
    table = out / "data" / "captions.csv"
    assert code("clean", "--input", table, "--drop_missing_paths", "--drop-generic-only") == 0
    clean = table.with_name("captions_clean.csv")
    ratios = ("--val_ratio", "0.2", "--test_ratio", "0.2")
    # As when the stored curve was made; phantoms' reports are written from templates.
    how = ("--no-stratify", "--allow-similar-reports")
    assert code("split", "--input", clean, *ratios, *how) == 0
    for name in ("train", "val", "test"):
        keep_apart_from_grades(part(out, name))
    run_align(align_config(out))
    run_caption(caption_config(out))
    return out


def keep_apart_from_grades(table: Path) -> None:
    """Drop the column grade, so that no grade head is trained; NAME_graded.csv keeps it."""
    with table.open(encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    table.rename(table.with_stem(f"{table.stem}_graded"))
    with table.open("w", encoding="utf-8-sig", newline="") as handle:
        writer = csv.DictWriter(handle, [k for k in rows[0] if k != "grade"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def code(*arguments: object) -> int:
    """Exit code of a command line."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


def part(out: Path, name: str) -> Path:
    return out / "data" / f"captions_clean_{name}.csv"


def lines_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def align_config(out: Path, **changes: Any) -> AlignConfig:
    base = {"csv_train": part(out, "train"), "csv_val": part(out, "val"), "output_dir": out}
    return AlignConfig(**{**base, **ALIGN, **changes})


def caption_config(out: Path, **changes: Any) -> CaptionConfig:
    base = {
        "csv": part(out, "train"),
        "csv_val": part(out, "val"),
        "output_dir": out,
        "cache_dir": out / "cache",
        "ignore_gate": True,
    }
    return CaptionConfig(**{**base, **CAPTION, **changes})


def test_the_seeded_loss_curve_is_the_stored_one(work: Path) -> None:
    align = [float(row["loss"]) for row in lines_of(work / "stage1_train_log.csv")]
    rows = lines_of(work / "stage2_train_log.csv")
    assert list(rows[0]) == ["step", "epoch", "caption_loss"]
    curve = {"align": align, "caption": [float(row["caption_loss"]) for row in rows]}
    if not CURVE.exists():  # made anew by deleting the file, on purpose
        CURVE.write_text(json.dumps(curve, indent=1), encoding="utf-8")
        pytest.fail(f"{CURVE.name} was missing and has been written: commit it")
    stored = json.loads(CURVE.read_text(encoding="utf-8"))
    for stage, losses in stored.items():
        assert curve[stage] == pytest.approx(losses, rel=2e-3), stage


def test_both_stages_learn_and_the_language_model_stays_as_it_was(work: Path) -> None:
    rows = lines_of(work / "stage1_train_log.csv")
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    before, _, _ = load_vision(work / "vision_bridge_final.pt")
    after, provenance, adapters = load_vision(work / "vision_bridge_vlm_final.pt")
    moved = [
        n
        for (n, a), b in zip(
            after.bridge.named_parameters(), before.bridge.parameters(), strict=True
        )
        if not torch.equal(a, b)
    ]
    assert len(moved) > 10
    for a, b in zip(after.encoder.parameters(), before.encoder.parameters(), strict=True):
        assert torch.equal(a, b)
    assert adapters == {}
    figures = provenance.figures["caption"]
    assert figures["val_loss"] < figures["val_loss_before"]


def test_the_loss_covers_the_answer_alone(work: Path) -> None:
    vision, _, _ = load_vision(work / "vision_bridge_vlm_final.pt")
    llm = setup.open_llm(ModelConfig(), "cpu")
    rows = load_rows(part(work, "test"))[:3]
    tokens = tokenize_rows(rows, llm, 512)
    ids, mask, labels = collate(tokens, [0, 1, 2], llm.pad_id)
    for b in range(3):
        question, answer = tokens.questions[b], tokens.answers[b]
        assert labels[b][labels[b] != -100].tolist() == answer
        assert int((labels[b] != -100).nonzero()[0]) == len(question)
        assert int(mask[b].sum()) == len(question) + len(answer)
        assert answer[-1] == llm.eos_id
    pooled = vision.pool(torch.zeros(1, 1, 16, 32, 32) - 1)
    vlm = VLM(vision, llm)
    start = len(tokens.questions[0])
    one = vlm(pooled, ids[:1], mask[:1], labels[:1])
    other = labels[:1].clone()
    other[0, start + 2] = (other[0, start + 2] + 1) % 100
    assert not torch.equal(one, vlm(pooled, ids[:1], mask[:1], other))


def test_a_long_answer_is_cut_at_its_end_and_counted(work: Path) -> None:
    llm = setup.open_llm(ModelConfig(), "cpu")
    rows = load_rows(part(work, "test"))[:4]
    whole, cut = tokenize_rows(rows, llm, 512), tokenize_rows(rows, llm, 40)
    assert whole.truncated == 0
    assert cut.truncated == 4
    assert cut.truncation_rate == 1
    for i in range(4):
        assert cut.questions[i] == whole.questions[i]
        assert cut.answers[i] == whole.answers[i][: 40 - len(cut.questions[i])]
    with pytest.raises(DataError, match="leaves no room"):
        tokenize_rows([replace(rows[0], question="问" * 60)], llm, 40)


def test_stage_two_says_what_the_loss_covers_first(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = caption_config(
        work, output_dir=tmp_path, vision_checkpoint=work / "vision_bridge_final.pt"
    )
    graphed: list[bool] = []
    real = GraphedStep.__call__

    def call(step: GraphedStep, embeds: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        graphed.append(embeds.requires_grad)
        return real(step, embeds, *rest)

    monkeypatch.setattr(GraphedStep, "__call__", call)
    run_caption(config)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("language model path: ctscribe: selective scan without CUDA kernels")
    assert sum(graphed) == len(lines_of(tmp_path / "stage2_train_log.csv"))
    assert lines[0].startswith("[debug] 样本0: prompt token 数=")
    assert "truncation rate" in lines[1]
    written = {"vision_bridge_vlm_final.pt", "stage2_config.json", "stage2_train_log.csv"}
    assert written <= {p.name for p in tmp_path.iterdir()}
    _, first = load_tensors(tmp_path / "vision_bridge_vlm_final.pt")
    run_caption(config)  # goes on from what is there
    out = capsys.readouterr().out
    assert f"start from {tmp_path / 'vision_bridge_vlm_final.pt'}" in out
    _, second = load_tensors(tmp_path / "vision_bridge_vlm_final.pt")
    assert first["sha256"] != second["sha256"]
    with pytest.raises(CheckpointError, match="max_visual_tokens 96, not 64"):
        run_caption(replace(config, model=ModelConfig(max_visual_tokens=64)))
    with pytest.raises(CheckpointError, match="20 visual tokens"):
        run_caption(replace(config, from_scratch=True, model=ModelConfig(max_visual_tokens=8)))


def test_lora_trains_is_kept_and_is_asked_for_again(work: Path, tmp_path: Path) -> None:
    config = caption_config(
        work,
        output_dir=tmp_path,
        vision_checkpoint=work / "vision_bridge_final.pt",
        lora_rank=4,
    )
    run_caption(config)
    _, _, adapters = load_vision(config.final_checkpoint)
    assert any(float(v.abs().sum()) > 0 for k, v in adapters.items() if "lora_B" in k)
    with pytest.raises(CheckpointError, match="LoRA"):
        run_caption(replace(config, lora_rank=0))
    image = load_rows(part(work, "test"))[0].image_path
    page = run_report(
        ReportConfig(image=image, checkpoint=config.final_checkpoint, output=tmp_path / "r.html")
    )
    assert page.generated


def test_the_cmi_is_trained_in_stage_two_kept_and_asked_for_again(
    work: Path, tmp_path: Path
) -> None:
    model = ModelConfig(use_cmi=True, cmi_compress_to=9, max_visual_tokens=9)
    start = work / "vision_bridge_final.pt"
    config = caption_config(work, model=model, output_dir=tmp_path, vision_checkpoint=start)
    run_caption(config)
    vision, provenance, _ = load_vision(config.final_checkpoint)
    assert vision.cmi is not None
    assert vision.cmi.film.weight.any()
    assert vision.cmi.score.weight.any()
    assert (vision.visual_tokens, provenance.max_visual_tokens) == (9, 9)
    image = load_rows(part(work, "test"))[0].image_path
    page = tmp_path / "r.html"
    assert run_report(
        ReportConfig(image=image, checkpoint=config.final_checkpoint, output=page)
    ).generated
    with pytest.raises(CheckpointError, match=r"compress_to=9.*no CMI.*--from-scratch"):
        run_caption(replace(config, model=ModelConfig()))
    with pytest.raises(CheckpointError, match="cmi-d-state"):
        run_caption(replace(config, model=replace(model, cmi_d_state=8)))
    with pytest.raises(ConfigError, match="20 of the whole image make 20 visual tokens"):
        run_align(align_config(work, model=replace(model, use_cmi=False), output_dir=tmp_path))


def test_a_collapsed_stage_one_stops_stage_two(work: Path, tmp_path: Path) -> None:
    config = align_config(
        work, output_dir=tmp_path, cache_dir=work / "cache", epochs=1, lr=1e-8, ignore_gate=False
    )
    with pytest.raises(GateError, match="did not pass its gate"):
        run_align(config)
    gate = json.loads((tmp_path / "stage1_gate.json").read_text("utf-8"))
    assert not gate["passed"]
    start = tmp_path / "vision_bridge_final.pt"
    with pytest.raises(GateError):
        run_caption(
            caption_config(
                work,
                vision_checkpoint=start,
                from_scratch=True,
                output_dir=tmp_path,
                ignore_gate=False,
            )
        )
    assert not (tmp_path / "vision_bridge_vlm_final.pt").exists()


def test_report_writes_the_models_own_text_and_says_phantoms_only(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = load_rows(part(work, "test"))[0]
    checkpoint = work / "vision_bridge_vlm_final.pt"
    page = tmp_path / "page.html"
    assert code("report", row.image_path, "--checkpoint", checkpoint, "--output", page) == 0
    out = capsys.readouterr().out
    vlm, _ = open_vlm(checkpoint, None, "cpu", stage="caption")
    study = read_study(row, vlm.vision)
    pooled = vlm.vision.pool(study.image[None], study.rois_mm[None])
    question = QUESTIONS["zh"][0]
    written = write_reports(vlm, pooled, [question], Decoding(), device="cpu")[0]
    assert out.startswith(written.text + "\n")
    html = page.read_text(encoding="utf-8")
    assert "phantom" in html
    assert str(row.image_path.parent) not in html


def test_the_same_voxels_give_the_same_report_whatever_wrote_them(
    work: Path, tmp_path: Path
) -> None:
    import nibabel

    row = load_rows(part(work, "test"))[1]
    volume = read_volume(row.image_path)
    ours = tmp_path / "ours.nii.gz"
    write_volume(volume, ours)
    theirs = tmp_path / "theirs.nii.gz"
    xyz = np.ascontiguousarray(volume.array_zyx.transpose(2, 1, 0)).astype(np.int16)
    image = nibabel.Nifti1Image(xyz, volume.affine)
    flipped = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt(("R", "A", "S")),
            nibabel.orientations.axcodes2ornt(("P", "S", "L")),
        )
    )
    nibabel.save(flipped, theirs)
    checkpoint = work / "vision_bridge_vlm_final.pt"
    texts = {
        run_report(
            ReportConfig(image=path, checkpoint=checkpoint, output=tmp_path / "p.html")
        ).generated
        for path in (row.image_path, ours, theirs)
    }
    assert len(texts) == 1


def test_no_chest_no_report(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = read_volume(load_rows(part(work, "test"))[0].image_path)
    blank = replace(volume, array_zyx=np.full_like(volume.array_zyx, -1000))
    write_volume(blank, tmp_path / "blank.nii.gz")
    checkpoint = work / "vision_bridge_vlm_final.pt"
    page = tmp_path / "page.html"
    assert (
        code("report", tmp_path / "blank.nii.gz", "--checkpoint", checkpoint, "--output", page) == 2
    )
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "blank.nii.gz" in error
    assert not page.exists()


def test_an_empty_generation_is_an_error(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = load_rows(part(work, "test"))[0]
    asked: dict[str, Any] = {}

    def silent(*_: Any, **options: Any) -> list[Generated]:
        asked.update(options)
        return [Generated(" ", (), "empty")]

    monkeypatch.setattr("ctscribe.generation.write.generate", silent)
    page = tmp_path / "page.html"
    with pytest.raises(GenerationError, match="wrote no text"):
        run_report(
            ReportConfig(
                image=row.image_path,
                checkpoint=work / "vision_bridge_vlm_final.pt",
                output=page,
                num_beams=2,
                no_repeat_ngram_size=3,
                stop="。",
            )
        )
    assert not page.exists()
    assert (asked["num_beams"], asked["no_repeat_ngram_size"], asked["stop"]) == (2, 3, ("。",))


def test_settings_that_disagree_with_the_checkpoint_show_both_values(
    work: Path, tmp_path: Path
) -> None:
    row = load_rows(part(work, "test"))[0]
    config = ReportConfig(image=row.image_path, checkpoint=work / "vision_bridge_vlm_final.pt")
    with pytest.raises(CheckpointError, match="96, not 32"):
        run_report(replace(config, max_visual_tokens=32, output=tmp_path / "p.html"))
    other = tmp_path / "other"
    shutil.copytree(Path(setup.__file__).parents[1] / "assets" / "llm", other)
    settings = json.loads((other / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps({**settings, "use_cache": False}), "utf-8")
    with pytest.raises(CheckpointError, match="config_sha256"):
        run_report(replace(config, mamba_model=other, output=tmp_path / "p.html"))
    with pytest.raises(CheckpointError, match="stage align"):
        run_report(replace(config, checkpoint=work / "vision_bridge_final.pt"))


def test_every_unreadable_image_is_named(work: Path, tmp_path: Path) -> None:
    with part(work, "train").open(encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    bad = tmp_path / "images"
    bad.mkdir()
    for i, row in enumerate(rows):
        source = part(work, "train").parent / row["image_path"]
        row["image_path"] = str(source)
        if i in (1, 3):
            broken = bad / source.name
            broken.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
            row["image_path"] = str(broken)
    table = tmp_path / "rows.csv"
    with table.open("w", encoding="gb18030", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    config = align_config(work, csv_train=table, cache_dir=work / "cache", output_dir=tmp_path)
    with pytest.raises(DataError) as caught:
        run_align(config)
    assert rows[1]["case_id"] in str(caught.value)
    assert rows[3]["case_id"] in str(caught.value)
    assert "2 of" in str(caught.value)
    assert not (tmp_path / "vision_bridge_final.pt").exists()


def test_two_dimensions_go_the_same_way(work: Path, tmp_path: Path) -> None:
    """One slice a study, chosen by where the most lung is, pooled on a grid."""
    config = EncoderConfig(
        spatial_dims=2,
        channels=(8, 8, 8, 8),
        strides=((2, 2), (2, 2), (2, 2)),
        blocks=(1, 1, 1, 1),
    )
    torch.manual_seed(0)
    save_encoder(Encoder(config), tmp_path / "encoder")
    model = ModelConfig(
        encoder=tmp_path / "encoder", spatial_dims=2, pooling="grid", pool_size=(4, 4)
    )
    run_align(align_config(work, model=model, output_dir=tmp_path, epochs=1))
    run_caption(caption_config(work, model=model, output_dir=tmp_path, cache_dir=None))
    row = load_rows(part(work, "test"))[0]
    checkpoint = tmp_path / "vision_bridge_vlm_final.pt"
    page = run_report(
        ReportConfig(image=row.image_path, checkpoint=checkpoint, output=tmp_path / "p.html")
    )
    assert page.generated
    with pytest.raises(ConfigError, match="trained in 2 dimensions"):
        run_align(
            align_config(
                work, model=ModelConfig(encoder=tmp_path / "encoder"), output_dir=tmp_path / "x"
            )
        )


def test_evaluate_scores_the_model_beside_controls(work: Path, tmp_path: Path) -> None:
    arguments = ["--checkpoint", work / "vision_bridge_vlm_final.pt", "--csv", part(work, "test")]
    arguments += ["--csv-train", part(work, "train"), "--truth", work / "data" / "truth"]
    arguments += ["--output-dir", tmp_path, "--cache-dir", work / "cache", "--n-boot", 100]
    assert code("evaluate", *arguments) == 0
    scores = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert set(scores["scores"]) == {"model", "swapped", "blank", "normal", "voxels", "features"}
    assert scores["scores"]["normal"]["findings"]["strict_f1"]["value"] == 0
    lines = [json.loads(x) for x in (tmp_path / "reports.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == scores["studies"] == len(load_rows(part(work, "test")))
    for line in lines:
        assert line["generated"]["swapped"] is not None
    assert not math.isnan(scores["heads"]["strict_f1"]["value"])


def test_grades_are_learned_kept_shown_and_scored(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {name: part(work, f"{name}_graded") for name in ("train", "val", "test")}
    cache = work / "cache"
    run_align(
        align_config(
            work,
            csv_train=tables["train"],
            csv_val=tables["val"],
            output_dir=tmp_path,
            cache_dir=cache,
        )
    )
    log = lines_of(tmp_path / "stage1_train_log.csv")
    assert float(log[-1]["grade"]) < 0.8 * float(log[0]["grade"])
    plain = lines_of(work / "stage1_train_log.csv")
    assert set(log[0]) - set(plain[0]) == {"grade"}
    run_caption(
        caption_config(work, csv=tables["train"], csv_val=tables["val"], output_dir=tmp_path)
    )
    checkpoint = tmp_path / "vision_bridge_vlm_final.pt"
    aligned, final = (
        load_vision(tmp_path / name)[0].heads.grade
        for name in ("vision_bridge_final.pt", checkpoint.name)
    )
    assert aligned is not None
    assert final is not None
    assert torch.equal(aligned.weight, final.weight)
    capsys.readouterr()
    image = load_rows(tables["test"])[0].image_path
    page = run_report(ReportConfig(image=image, checkpoint=checkpoint, output=tmp_path / "r.html"))
    assert sum(g.probability for g in page.grades) == pytest.approx(1, abs=1e-5)
    shown = capsys.readouterr().out
    assert shown.startswith(page.generated + "\ngrade head (no part of the report): AAH 0.")
    assert "浸润性腺癌" in (tmp_path / "r.html").read_text("utf-8")
    arguments = ["--checkpoint", checkpoint, "--csv", tables["test"], "--no-controls"]
    arguments += ["--output-dir", tmp_path, "--cache-dir", cache, "--n-boot", 100]
    assert code("evaluate", *arguments) == 0
    grades = json.loads((tmp_path / "scores.json").read_text("utf-8"))["grades"]
    known = [row.grade for row in load_rows(tables["test"]) if row.grade]
    assert grades["studies"] == sum(map(sum, grades["confusion"])) == len(known)
    assert {"accuracy", "balanced_accuracy", "macro_auroc", "ece"} == set(grades["scores"])
    assert "rows true, columns named" in capsys.readouterr().out
    # Without that head: nothing on the page, and a line that says why nothing was scored.
    old = work / "vision_bridge_vlm_final.pt"
    assert "grades" not in load_tensors(old)[1]
    assert not run_report(
        ReportConfig(image=image, checkpoint=old, output=tmp_path / "r.html")
    ).grades
    assert code("evaluate", *["--checkpoint", old, *arguments[2:]]) == 0
    assert "no grade head" in capsys.readouterr().out
    assert "grades" not in json.loads((tmp_path / "scores.json").read_text("utf-8"))
    tensors, said = load_tensors(checkpoint)
    save_tensors(checkpoint, tensors, {**said, "grades": ["AAH", "IAC"]})
    with pytest.raises(CheckpointError, match="its grades are"):
        load_vision(checkpoint)
