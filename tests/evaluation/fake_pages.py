"""Pages filled with made-up figures, for tests and for looking at the design."""

from __future__ import annotations

import base64
import struct
import zlib

from ctscribe.evaluation import page as p
from ctscribe.evaluation.clinical import Estimate
from ctscribe.evaluation.grades import GradeScores
from ctscribe.reports.schema import Finding

T = p.Text


def png(width: int = 4, height: int = 3) -> str:
    """A grey PNG as base64."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x60" * width) * height
    raw = p.PNG_MAGIC + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    return base64.b64encode(raw + chunk(b"IEND", b"")).decode()


def estimate(value: float, spread: float = 0.03, top: float = 1.0) -> Estimate:
    return Estimate(value, max(0.0, value - spread), min(top, value + spread))


def row(metric: str, *values: float | None, target: float | None = None, **more) -> p.ScoreRow:
    """Values in the order model, heads, swapped, blank, normal, voxels, features."""
    columns = ("model", "heads", "swapped", "blank", "normal", "voxels", "features")
    top = 1.0 if metric not in ("bleu", "size_error_mm") else 100.0
    spread = 0.2 if metric == "size_error_mm" else 0.03
    return p.ScoreRow(
        metric,
        {
            c: None if v is None else estimate(v, spread, top)
            for c, v in zip(columns, values, strict=True)
        },
        target=None if target is None else p.Target(target),
        **more,
    )


STRICT = row("strict_f1", 0.842, 0.871, 0.094, 0.012, 0.0, 0.118, 0.437, target=0.80)
GENERATED = (
    "所见：胸廓对称。右肺上叶见实性结节，直径约14mm，边界清楚。左肺下叶见磨玻璃结节，约9mm。"
    "未见胸腔积液。纵隔居中，心影不大。\n结论：1. 右肺上叶实性结节，约14mm。2. 右肺下叶磨玻璃结节。"
    "3. 左侧少量胸腔积液。\n建议：3个月后复查胸部CT。"
)
REFERENCE = (
    "所见：两侧胸廓对称。右上肺可见一实性结节，大小约14×11mm。右肺下叶见磨玻璃结节，长径约9mm。"
    "右肺中叶实变影。未见胸腔积液及气胸。心影大小正常。\n结论：1. 右肺上叶实性结节14mm。"
    "2. 右肺下叶磨玻璃结节9mm。3. 右肺中叶实变。\n建议：3个月后复查。\n病理倾向：恶性不除外。"
)
RUL = Finding("nodule", "right", "RUL", 14, "solid")
RLL = Finding("nodule", "right", "RLL", 9, "ground-glass")


def mark(phrase: str, status: p.Status, note: p.Words = "", text: str = GENERATED) -> p.SpanMark:
    start = text.index(phrase)
    return p.SpanMark(start, start + len(phrase), status, note)


def case(number: int = 1, **changes) -> p.CaseCard:
    values = {
        "case_id": f"demo_{number:04d}",
        "language": "zh",
        "images": (
            p.SliceImage(
                png(), T("轴位 31/68，z = 124 mm", "axial 31/68, z = 124 mm"), T("真值", "truth")
            ),
        ),
        "reference": REFERENCE,
        "generated": GENERATED,
        "marks": (
            mark("右肺上叶见实性结节，直径约14mm", "right"),
            mark(
                "左肺下叶见磨玻璃结节，约9mm",
                "wrong-place",
                T("真值在右肺下叶", "truth: right lower lobe"),
            ),
            mark("右肺上叶实性结节，约14mm", "right"),
            mark(
                "右肺下叶磨玻璃结节",
                "contradiction",
                T("所见写左肺下叶", "findings say left lower lobe"),
            ),
            mark("左侧少量胸腔积液", "wrong", T("该例无胸腔积液", "no effusion in this study")),
        ),
        "omitted": (Finding("consolidation", "right", "RML"),),
        "table": (
            p.FindingRow(RUL, Finding("nodule", "right", "RUL", 15, "solid"), RUL, 0.98),
            p.FindingRow(RLL, Finding("nodule", "left", "LLL", 9, "ground-glass"), RLL, 0.41),
            p.FindingRow(Finding("consolidation", "right", "RML"), None, None, 0.22),
            p.FindingRow(None, None, Finding("effusion", "left", amount="small"), 0.07),
        ),
        "finish_reason": "eos",
    }
    return p.CaseCard(**(values | changes))


NORMAL = "所见：双肺纹理清晰，未见结节及实变影。未见胸腔积液及气胸。\n结论：胸部CT未见明显异常。"


def clean_case(number: int) -> p.CaseCard:
    return case(
        number, reference=NORMAL, generated=NORMAL, marks=(), omitted=(), table=(),
    )  # fmt: skip


def demo(**changes) -> p.DemoPage:
    steps = list(range(10, 901, 10))

    def falling(top: float, floor: float) -> list[float]:
        return [
            floor + top * 0.985 ** (s / 4) + 0.06 * top * ((s * 7919) % 13 - 6) / 13 for s in steps
        ]

    values = {
        "made": "2026-11-24 17:10 · ctscribe 0.1.0 · seed 7",
        "studies": 216,
        "scores": (
            STRICT,
            row("strict_f1_findings", 0.851, 0.871, 0.095, 0.012, 0.0, 0.117, 0.431),
            row("strict_f1_impression", 0.833, None, 0.093, 0.012, 0.0, 0.119, 0.443),
            row("finding_f1", 0.931, 0.944, 0.482, 0.511, 0.0, 0.47, 0.71, target=0.90),
            row("nodule_f1", 0.788, 0.84, 0.07, 0.0, 0.0, 0.09, 0.33, target=0.80),
            row("side_accuracy", 0.986, 0.991, 0.53, 0.5, None, 0.55, 0.81, target=0.97),
            row("lobe_accuracy", 0.913, 0.93, 0.24, 0.2, None, 0.25, 0.58, target=0.88),
            row("density_accuracy", 0.87, 0.89, 0.27, 0.3, None, 0.3, 0.41),
            row("hallucinated_share", 0.052, 0.04, 0.44, 0.49, None, 0.46, 0.2, target=0.08),
            row("size_error_mm", 1.7, 1.5, 6.2, None, None, 5.9, 4.1, target=3.0),
            row("contradictory_share", 0.02, None, 0.02, 0.01, 0.0, 0.0, 0.0),
            row("strict_f1_nodule", 0.79, 0.81, 0.1, 0.0, 0.0, 0.1, 0.4),
            row("strict_f1_consolidation", 0.86, 0.88, 0.08, 0.0, 0.0, 0.12, 0.41),
            row("strict_f1_effusion", 0.95, 0.97, 0.13, 0.0, 0.0, 0.1, 0.38),
            row("bleu", 41.2, None, 30.5, 28.1, 22.0, 31.0, 35.5),
            row("rouge_l", 0.62, None, 0.51, 0.5, 0.44, 0.52, 0.57),
        ),
        "losses": (
            p.LossPlot(
                T("第一阶段 · 对齐", "Stage 1 · align"),
                (
                    p.LossCurve(T("总损失", "total"), steps, falling(2.4, 0.5)),
                    p.LossCurve(T("密集分割", "dense"), steps, falling(1.1, 0.21)),
                    p.LossCurve(T("对比", "contrastive"), steps, falling(0.7, 0.18)),
                    p.LossCurve(
                        T("验证", "validation"),
                        steps[8::9],
                        [2.0, 1.4, 1.1, 0.95, 0.84, 0.78, 0.74, 0.71, 0.7, 0.69],
                        True,
                    ),
                ),
                "epoch",
            ),
            p.LossPlot(
                T("第二阶段 · 报告", "Stage 2 · caption"),
                (
                    p.LossCurve(T("答案词元", "answer tokens"), steps, falling(3.1, 0.31)),
                    p.LossCurve(
                        T("验证", "validation"),
                        steps[8::9],
                        [2.2, 1.5, 1.0, 0.72, 0.55, 0.47, 0.43, 0.4, 0.39, 0.385],
                        True,
                    ),
                ),
                T("优化步", "step"),
                log=True,
            ),
        ),
        "grades": GradeScores(
            studies=140,
            unknown=76,
            scores={
                "accuracy": estimate(0.74),
                "balanced_accuracy": estimate(0.61),
                "macro_auroc": estimate(0.88),
                "ece": estimate(0.06),
            },
            majority="IAC",
            constant={
                "accuracy": estimate(0.51),
                "balanced_accuracy": estimate(0.25, 0.0),
                "macro_auroc": estimate(0.5, 0.0),
            },
            confusion=((4, 9, 0, 1), (3, 31, 1, 2), (0, 3, 5, 9), (1, 2, 6, 63)),
        ),
        "gate": p.Gate(
            (
                p.GateFigure(
                    T("有效秩", "Effective rank"), 18.4, 6, 1, T("塌缩", "collapse"), 32, 1
                ),
                p.GateFigure(T("标签 AUROC", "Label AUROC"), 0.962, 0.80, 0.5),
                p.GateFigure(
                    T("检索前 5 命中", "Retrieval, own report in top 5"), 0.61, 0.22, 0.044
                ),
            ),
            studies=120,
        ),
        "cleaning": p.Cleaning(
            1048,
            962,
            (
                p.Count(T("图像文件缺失", "image file missing"), 21),
                p.Count(T("重复行", "duplicate row"), 34),
                p.Count(T("空泛报告", "generic one-liner"), 19),
                p.Count(T("广告", "advertising only"), 12),
            ),
            (
                p.Count(T("删去电话号码", "phone number removed"), 47),
                p.Count(T("删去广告行", "advertising line removed"), 58),
            ),
        ),
        "split": p.SplitCheck(
            (
                p.SplitPart(T("训练", "train"), 634, 520),
                p.SplitPart(T("验证", "validation"), 112, 96),
                p.SplitPart(T("测试", "test"), 216, 181),
            ),
            (
                p.LeakCheck(T("同一患者", "same patient"), 0),
                p.LeakCheck(T("同一图像（SHA-256）", "same image bytes (SHA-256)"), 0),
                p.LeakCheck(T("近乎相同的长报告", "near-identical long report"), 0),
                p.LeakCheck(T("相同的正常报告", "same normal report"), 41, harmless=True),
            ),
        ),
        "steps": (
            p.StepCost(T("生成体模", "make phantoms"), 84, 0.9, T("1,000 例", "1,000 studies")),
            p.StepCost(T("清洗与划分", "clean and split"), 2.1, 0.4, "captions_clean.csv"),
            p.StepCost(T("第一阶段", "stage 1"), 171, 2.6, "outputs/demo/stage1"),
            p.StepCost(T("门控", "gate"), 4, 1.2),
            p.StepCost(T("第二阶段", "stage 2"), 148, 3.1, "vision_bridge_vlm_final.pt"),
            p.StepCost(T("生成与评估", "generate, evaluate"), 96, 1.8, T("216 份", "216 reports")),
        ),
        "budget": p.Budget(600, 6),
        "language_model": (
            p.Fact(T("模型", "model"), "demo-mamba (MambaForCausalLM, 4 layers, width 256)"),
            p.Fact(T("状态扫描", "scan"), "ctscribe: selective scan without CUDA kernels"),
            p.Fact(T("冻结", "frozen"), T("是", "yes")),
        ),
        "provenance": (
            p.Fact(T("检查点 SHA-256", "checkpoint SHA-256"), "9f2c41d07be9" * 5),
            p.Fact(T("数据清单 SHA-256", "manifest SHA-256"), "1be90c4477aa" * 5),
            p.Fact("torch", "2.13.0+cpu"),
        ),
        "cases": tuple(clean_case(i) if i % 4 == 0 else case(i) for i in range(1, 13)),
        "cases_chosen": T(
            "测试集按编号的前 12 例，不按结果挑选。",
            "The first 12 of the test part by number, not chosen by result.",
        ),
        "real": p.RealCase(
            "TotalSegmentator 2.18.0, example_ct.nii.gz",
            tuple(
                p.SliceImage(png(), T(f"轴位 {z}/233", f"axial {z}/233")) for z in (90, 130, 170)
            ),
            NORMAL,
            "zh",
            (
                p.Fact(T("右肺", "right lung"), "2.2 l"),
                p.Fact(T("左肺", "left lung"), "1.6 l"),
                p.Fact(T("心脏", "heart"), T("在患者左侧", "on the patient’s left")),
            ),
        ),
    }
    return p.DemoPage(**(values | changes))


def report(**changes) -> p.ReportPage:
    values = {
        "case_id": "lung1_image",
        "made": "2026-11-24 17:12 · ctscribe 0.1.0",
        "language": "zh",
        "images": tuple(
            p.SliceImage(png(), T(f"轴位 {z}/233", f"axial {z}/233")) for z in (60, 100, 140, 180)
        ),
        "generated": GENERATED,
        "image_facts": (
            p.Fact(T("文件", "file"), "lung1_image.nrrd"),
            p.Fact(T("体素", "voxels"), "512 × 512 × 48, 0.57 × 0.57 × 5 mm"),
            p.Fact(T("窗", "window"), "−1350 … 150 HU"),
            p.Fact(T("肺容积", "lungs"), T("右 2.2 l，左 1.6 l", "right 2.2 l, left 1.6 l")),
        ),
        "provenance": (
            p.Fact(T("检查点 SHA-256", "checkpoint SHA-256"), "9f2c41d07be9" * 5),
            p.Fact(T("编码器", "encoder"), "phantom encoder, 1.1 M"),
            p.Fact(T("语言模型", "LLM"), "demo-mamba"),
            p.Fact(T("路径", "path"), "ctscribe: selective scan without CUDA kernels"),
        ),
        "settings": (p.Fact("max_new_tokens", "256"), p.Fact("do_sample", "false")),
        "phantom_only": True,
        "marks": (
            mark("右肺上叶见实性结节，直径约14mm", "stated"),
            mark("左肺下叶见磨玻璃结节，约9mm", "unsupported", T("概率 0.11", "p 0.11")),
            mark("右肺下叶磨玻璃结节", "contradiction", T("所见写左肺下叶", "findings say left")),
        ),
        "claims": (
            p.ClaimRow(RUL, "右肺上叶见实性结节，直径约14mm", True, True, 0.97, True, 2),
            p.ClaimRow(RLL, "右肺下叶磨玻璃结节", False, True, 0.11, False, 3),
            p.ClaimRow(
                Finding("effusion", "left", amount="small"), "左侧少量胸腔积液", False, True
            ),
        ),
        "grades": (
            p.GradeChance(T("AAH 不典型腺瘤样增生", "AAH, atypical hyperplasia"), 0.04),
            p.GradeChance(T("IAC 浸润性腺癌", "IAC, invasive adenocarcinoma"), 0.96),
        ),
        "finish_reason": "eos",
    }
    return p.ReportPage(**(values | changes))
