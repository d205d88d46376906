"""The READMEs' figures of Mamba are those of the JSON files, in both languages."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("readme_table")


def written(folder: Path, results: dict[str, Any]) -> None:
    """Both JSON files, as benchmarks/mamba.py writes them of these results."""
    mamba = importlib.import_module("mamba")
    rows = {key: mamba._row(mamba.FIGURES[key], result, False) for key, result in results.items()}
    for name, device in (("mamba-h200.json", "NVIDIA H200"), ("mamba-cpu.json", "Some CPU")):
        document = {
            "date": "2031-02-03",
            "device": device,
            "versions": {"torch": "9.8.7"},
            "quick": False,
            "recorded": "measured on one H200 on 2030-01-02, bf16",
            "figures": rows,
        }
        (folder / name).write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_readmes_block_is_what_the_results_give(table: Any, language: str) -> None:
    text = table.READMES[language].read_text(encoding="utf-8")
    filled = table.fill(text, table.block(table.RESULTS, language))
    assert text == filled, "run python benchmarks/readme_table.py"


def test_every_figure_has_one_place_and_two_names(table: Any) -> None:
    placed = [key for _, _, labels in table.TABLES for key in labels]
    assert sorted(placed) == sorted(importlib.import_module("mamba").FIGURES)
    names = [name for _, _, labels in table.TABLES for name in labels.values()]
    assert all(re.search(r"[一-鿿]", zh) and not re.search(r"[一-鿿]", en) for en, zh in names)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_rows_show_ours_and_each_peer_with_its_ratio(
    table: Any, tmp_path: Path, language: str
) -> None:
    result = importlib.import_module("mamba_sections").Result
    peers = {"official": 2.0, "transformers": 1234.0, "mambapy": 777.0}
    cpu = result(7.0, {"transformers": 70.0}, more={"ours_ms": 10.0})
    written(
        tmp_path,
        {
            "scan_fwd_b1_l8192_ms": result(0.5, peers),
            "step_b1_l608_ms": result(16.0, {"official": 64.0}),  # transformers: recorded
            "step_b4_l608_ms": result(50.0, {}, {"transformers": "out of memory on 139 GiB"}),
            "decode_b1_tok_s": result(500.0, {"transformers": 20.0}),  # official: recorded
            "bridge_bidir_vs_official": result(None, {}, more={"ours_ms": 1.5}),
            "cpu_fwd_vs_transformers": cpu,
        },
    )
    block = table.block(tmp_path, language)
    rows = re.findall(r"^\| (.*) \|$", block, re.MULTILINE)
    cells = [row.split(" | ")[1:] for row in rows]
    full = {"en": "out of memory", "zh": "显存不足"}[language]
    assert cells[2:7] == [
        ["0.5 ms", "2 ms (4.0x)", "1,234 ms (2,468x)"],
        ["16 ms", "64 ms (4.0x)", "22,300 ms† (1,394x)"],
        ["50 ms", "254 ms† (5.1x)", full],
        ["500 tok/s", "23 tok/s† (22x)", "20 tok/s (25x)"],
        ["1.5 ms", "-", "-"],
    ]
    assert cells[9:] == [["10 ms", "-", "70 ms (7.0x)"]]
    for part in ("NVIDIA H200", "Some CPU", "2031-02-03", "torch 9.8.7", "bf16", "fp32"):
        assert part in block
    assert block.count("2030-01-02") == 1, "said once, where there is a dagger"
    assert "777" not in block


def test_without_results_there_is_a_sentence_and_tiny_shapes_are_refused(
    table: Any, tmp_path: Path
) -> None:
    assert table.block(tmp_path, "zh") == table.NOT_YET["zh"] + "\n"
    document = '{"quick": true, "figures": {}}'
    (tmp_path / "mamba-cpu.json").write_text(document, encoding="utf-8")
    with pytest.raises(ValueError, match="--quick"):
        table.block(tmp_path, "en")


def test_only_what_stands_between_the_markers_is_replaced(table: Any) -> None:
    before, after = "a\n" + table.BEGIN, table.END + "b\n"
    once = table.fill(f"{before}old\n{after}", "new\n")
    assert once == f"{before}new\n{after}"
    assert table.fill(once, "new\n") == once
    for broken in ("a\n", before, after, before + before + after):
        with pytest.raises(ValueError, match="one line"):
            table.fill(broken, "new\n")
