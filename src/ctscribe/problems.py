"""What can be wrong with a hospital's data: one code each, with its severity and what to do.

A typed error names its code (`CtscribeError.code`); `ctscribe check` and `ctscribe import-dicom`
list a `Problem` for each case. docs/DATA.md explains every code, and a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctscribe.errors import CtscribeError

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Kind:
    """A kind of problem in the words of both languages.

    error: the case cannot be used. warning: it can, a person should look. note: it was handled.
    """

    severity: Severity
    en: str
    zh: str
    fix_en: str
    fix_zh: str


@dataclass(frozen=True)
class Problem:
    """One finding of a check: which case and file, its code in `KINDS`, and its own figures.

    detail: one line in English with what was measured. fix: empty takes the kind's own.
    """

    case: str
    file: str
    code: str
    detail: str
    fix: str = ""

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise ValueError(f"{self.code} is no code of KINDS")

    @property
    def kind(self) -> Kind:
        """What `KINDS` says of its code."""
        return KINDS[self.code]

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.kind.severity


def problem_of(error: CtscribeError, *, case: str, file: str | Path) -> Problem:
    """A raised error as a problem; one without a code is `unreadable`."""
    return Problem(
        case, error.file or str(file), error.code or "unreadable", error.reason, error.fix
    )


KINDS: dict[str, Kind] = {
    # ------------------------------------------------------------------- any file
    "missing": Kind(
        "error",
        "there is no such file",
        "文件不存在",
        "correct the path, or restore the file",
        "更正路径，或恢复该文件",
    ),
    "unreadable": Kind(
        "error",
        "the file is damaged, truncated or of another format",
        "文件损坏、不完整或格式不符",
        "copy or export it again, complete",
        "重新完整复制或导出",
    ),
    "too-large": Kind(
        "error",
        "the header promises more than a CT holds or this machine can hold",
        "文件头声明的尺寸超出 CT 或本机内存所能容纳",
        "export it again; if it is sound, use a machine with more memory",
        "重新导出；若文件无误，请换内存更大的机器",
    ),
    "parse-limit": Kind(
        "error",
        "reading it took more memory or time than is allowed, or crashed the reader",
        "读取时内存或时间超限，或读取程序崩溃",
        "export it again; do not open it with other programs",
        "重新导出；请勿用其他程序打开该文件",
    ),
    # ------------------------------------------------------------------- volumes
    "not-3d": Kind(
        "error",
        "it is not one 3D volume of single values (4D, one slice, or colour)",
        "不是单一三维体数据（四维、单层或彩色）",
        "save the CT as one 3D volume",
        "请将 CT 存为一个三维体数据",
    ),
    "not-finite": Kind(
        "error",
        "voxels are NaN or infinite",
        "体素含 NaN 或无穷大",
        "export the image again",
        "重新导出图像",
    ),
    "no-geometry": Kind(
        "error",
        "the header does not say how the image lies (affine zero, singular, or a bare identity)",
        "文件头未说明图像方位（仿射矩阵为零、奇异或仅为单位阵）",
        "export it again from DICOM with its orientation",
        "从 DICOM 重新导出并保留方位信息",
    ),
    "geometry-conflict": Kind(
        "error",
        "the header says in two ways how the image lies, and they disagree (qform, sform, pixdim)",
        "文件头对图像方位有两种说法且互相矛盾（qform、sform、pixdim）",
        "export it again from DICOM with its orientation",
        "从 DICOM 重新导出并保留方位信息",
    ),
    "bad-mask": Kind(
        "error",
        "the mask does not lie on its image's grid, or holds no labels",
        "掩膜与图像网格不一致，或其值不是标签",
        "resample the mask onto the image's grid; give whole numbers from 0 to 255",
        "将掩膜重采样到图像网格；取值为 0 至 255 的整数",
    ),
    "sheared": Kind(
        "error",
        "the affine is not orthonormal: axes are sheared",
        "仿射矩阵非正交：坐标轴存在剪切",
        "resample the image onto a grid with right angles",
        "将图像重采样到直角网格",
    ),
    "spacing": Kind(
        "error",
        "voxel sizes are not a CT's",
        "体素尺寸不符合 CT",
        "export the image again with its spacing in mm",
        "重新导出，体素间距以毫米计",
    ),
    "not-hu": Kind(
        "error",
        "values are not Hounsfield units (slope lost, applied twice, 0-255 or 0-1)",
        "数值不是 HU（斜率丢失、重复应用，或被压到 0–255、0–1）",
        "export in Hounsfield units: slope and intercept applied once",
        "按 HU 导出：斜率与截距只应用一次",
    ),
    "blank": Kind(
        "error",
        "the image is blank or decoded to zeros",
        "图像为空白或解码后全为零",
        "export it again; check the decoder of the archive",
        "重新导出；检查归档系统的解码",
    ),
    "no-chest": Kind(
        "error",
        "no plausible chest is in it",
        "图像中没有可信的胸部",
        "give a CT of the whole chest",
        "请提供完整胸部 CT",
    ),
    "mirrored": Kind(
        "error",
        "left and right look swapped: heart on the right, liver on the left",
        "左右疑似颠倒：心脏在右、肝脏在左",
        "check the orientation (LPS saved as RAS?); if it is situs inversus: --accept mirrored",
        "检查方位（LPS 被当作 RAS？）；若为内脏反位，请加 --accept mirrored",
    ),
    "upside-down": Kind(
        "error",
        "head and foot look swapped",
        "头脚方向疑似颠倒",
        "check the order of slices and the orientation in the header",
        "检查层面顺序与文件头中的方位",
    ),
    "back-to-front": Kind(
        "error",
        "front and back look swapped",
        "前后方向疑似颠倒",
        "check the orientation in the header",
        "检查文件头中的方位",
    ),
    "turned": Kind(
        "error",
        "axes look swapped: the patient seems to lie on a side",
        "坐标轴疑似互换：患者似乎侧卧",
        "check the order of axes (an array of z, y, x saved as x, y, z, or pictures turned by 90 "
        "degrees)",
        "检查坐标轴顺序（z、y、x 数组被存为 x、y、z，或图像旋转了 90 度）",
    ),
    "anatomy-odd": Kind(
        "warning",
        "the anatomy is unusual",
        "解剖所见不寻常",
        "look at the image",
        "请人工查看图像",
    ),
    # --------------------------------------------------------------------- DICOM
    "slope-varies": Kind(
        "note",
        "slope or intercept differ from slice to slice; each was applied to its own",
        "各层斜率或截距不同，已逐层应用",
        "nothing to do",
        "无需处理",
    ),
    "slices-missing": Kind(
        "error",
        "slices are missing between others",
        "层面之间有缺失",
        "export the series again, complete",
        "重新完整导出该序列",
    ),
    "uneven-slices": Kind(
        "error",
        "slices are not evenly spaced",
        "层间距不均匀",
        "export a series with one spacing, or reconstruct it again",
        "导出层距一致的序列，或重新重建",
    ),
    "gantry-tilt": Kind(
        "error",
        "the gantry was tilted: slices do not stand at right angles to the table",
        "机架倾斜：层面与床面不垂直",
        "correct the tilt by resampling (dcm2niix does) or choose an untilted series",
        "用 dcm2niix 等工具重采样校正倾斜，或改用未倾斜的序列",
    ),
    "slices-duplicate": Kind(
        "note",
        "slices came twice with equal pixels; one of each was kept",
        "存在像素相同的重复层面，每层保留一份",
        "nothing to do",
        "无需处理",
    ),
    "slices-conflict": Kind(
        "error",
        "two slices at one position have different pixels",
        "同一位置有两层像素不同",
        "separate the two reconstructions, or export the series again",
        "分开两套重建，或重新导出该序列",
    ),
    "left-out": Kind(
        "note",
        "files or series that are no diagnostic chest CT were left out",
        "非诊断性胸部 CT 的文件或序列已略过",
        "nothing to do; if the wrong series was chosen, import-dicom --series-uid UID",
        "无需处理；如所选序列不对，用 import-dicom --series-uid 指定",
    ),
    "several-series": Kind(
        "note",
        "several diagnostic series; one was chosen",
        "有多个诊断序列，已选其一",
        "nothing to do; if the wrong series was chosen, import-dicom --series-uid UID",
        "无需处理；如所选序列不对，用 import-dicom --series-uid 指定",
    ),
    "several-patients": Kind(
        "warning",
        "the folder holds more than one patient or study; each is a case of its own",
        "文件夹内有多名患者或多次检查，已各自成为病例",
        "check that they were meant to be together",
        "请确认它们本应放在一起",
    ),
    "patient-shared": Kind(
        "warning",
        "several persons seem to share one patient id, and would count as one patient",
        "多名患者疑似共用一个患者编号，会被当作同一患者",
        "check that they are one person; if not, correct the ids in the archive and import again",
        "请确认是否为同一人；若不是，请在归档系统中更正编号后重新导入",
    ),
    "patient-split": Kind(
        "warning",
        "one person seems to have several patient ids, and would count as several patients",
        "同一人疑似有多个患者编号，会被当作多名患者",
        "if it is one person, give its rows in cases.csv one patient_id, which later imports keep",
        "若为同一人，请在 cases.csv 中把这些行的 patient_id 改成同一个；再次导入时会保留",
    ),
    "id-missing": Kind(
        "warning",
        "the header has no patient id, or no accession number to join the report by",
        "文件头缺少患者编号，或缺少用来对应报告的检查号",
        "fill it in in cases.csv, which later imports keep",
        "请在 cases.csv 中填写；再次导入时会保留",
    ),
    "syntax-unsupported": Kind(
        "error",
        "the pixels are stored in a transfer syntax that cannot be decoded",
        "像素的传输语法无法解码",
        "have the archive send it uncompressed or losslessly compressed",
        "请归档系统以未压缩或无损压缩发送",
    ),
    "syntax-lossy": Kind(
        "warning",
        "the pixels were compressed with loss",
        "像素经过有损压缩",
        "prefer the original; fine structures may be gone",
        "尽量使用原始图像；细微结构可能丢失",
    ),
    "executable-preamble": Kind(
        "error",
        "the file begins like a program (MZ or ELF) and like DICOM at once",
        "文件开头既是可执行程序（MZ 或 ELF）又是 DICOM",
        "do not run it; tell whoever sent it, and export the image again",
        "切勿运行；请告知发送方并重新导出图像",
    ),
    "dicomdir-outside": Kind(
        "error",
        "the DICOMDIR names files outside its own folder",
        "DICOMDIR 指向其文件夹以外的文件",
        "copy the medium again; files outside are never read",
        "重新复制介质；外部文件一律不读取",
    ),
    "uid-missing": Kind(
        "warning",
        "study, series or instance UIDs are empty; slices were grouped by their other fields",
        "检查、序列或实例 UID 为空，已按其他字段分组",
        "check that the slices belong together",
        "请确认这些层面属于同一序列",
    ),
    # ------------------------------------------------------------------ archives
    "zip-unsafe-name": Kind(
        "error",
        "the archive names files outside its folder, or reserved by Windows",
        "压缩包内的文件名越出其文件夹或为 Windows 保留名",
        "pack it again; nothing of it was unpacked",
        "重新打包；未解压任何内容",
    ),
    "zip-bomb": Kind(
        "error",
        "the archive unpacks to more than is allowed",
        "压缩包解压后超出限制",
        "unpack it by hand if you trust it, and give the folder",
        "若确信安全，请自行解压后给出文件夹",
    ),
    # -------------------------------------------------------------------- tables
    "encoding": Kind(
        "note",
        "the table is not utf-8; it was read in the encoding named",
        "表格不是 utf-8，已按所示编码读取",
        "nothing to do",
        "无需处理",
    ),
    "encoding-mixed": Kind(
        "error",
        "the table mixes encodings",
        "表格混用多种编码",
        "save it again as utf-8 from Excel (CSV UTF-8)",
        "用 Excel 另存为 CSV UTF-8",
    ),
    "bad-table": Kind(
        "error",
        "the table or one of its rows cannot be used",
        "表格或其中某行无法使用",
        "correct the cell that is named",
        "更正所指单元格",
    ),
    "bad-id": Kind(
        "error",
        "an id has lost digits or cannot be read",
        "编号丢失数字或无法读取",
        "format the column as text and fill the id in again",
        "将该列设为文本后重新填写编号",
    ),
    "repaired": Kind(
        "note",
        "cells were merged, hidden, dates or full-width and were read as what they mean",
        "单元格为合并、隐藏、日期或全角，已按其含义读取",
        "nothing to do; look at the list once",
        "无需处理；请浏览一遍清单",
    ),
    "no-formula-value": Kind(
        "error",
        "a formula has no stored value",
        "公式没有缓存值",
        "open the workbook in Excel, save it, and try again",
        "用 Excel 打开并保存后重试",
    ),
    "unmatched": Kind(
        "error",
        "a report has no image or an image no report",
        "报告无对应图像，或图像无对应报告",
        "add the missing one, or leave the row out",
        "补上缺失的一方，或删除该行",
    ),
    # ------------------------------------------------------------------- reports
    "report-empty": Kind(
        "error",
        "the report is empty",
        "报告为空",
        "fill it in, or leave the row out",
        "补写报告，或删除该行",
    ),
    "report-duplicate": Kind(
        "warning",
        "the same measured report stands at several studies",
        "多个检查使用了相同的带测量值的报告",
        "check which study it belongs to",
        "核对该报告属于哪次检查",
    ),
    "report-conflict": Kind(
        "error",
        "one study has different reports",
        "同一检查有不同的报告",
        "keep the one that is right",
        "只保留正确的一份",
    ),
    "personal-data": Kind(
        "warning",
        "the report holds a name, an id, a date or a phone number",
        "报告含姓名、证件号、日期或电话",
        "run ctscribe clean --deidentify",
        "运行 ctscribe clean --deidentify",
    ),
    "encoding-damage": Kind(
        "error",
        "the report's characters are damaged",
        "报告文字乱码",
        "export the report again in utf-8",
        "以 utf-8 重新导出报告",
    ),
    "patient-leak": Kind(
        "error",
        "a patient stands in two parts of a split",
        "同一患者出现在划分的两部分中",
        "split anew with ctscribe split",
        "用 ctscribe split 重新划分",
    ),
    "image-duplicate": Kind(
        "error",
        "two cases hold the same voxels",
        "两个病例的体素完全相同",
        "find out which report belongs to the image, and remove the other",
        "核对图像属于哪份报告，删除另一份",
    ),
}
