"""The Chinese of a page of ``tools/compare_methods.py``: its sentences are few, and the same on each.

python tools/dev/results_in_chinese.py docs/results.md [...]

writes ``docs/results.zh.md``, and what stands there below the mark stays.
"""

import re
import sys
from pathlib import Path

from medseg_kd.files import write_text
from medseg_kd.report.methods_page import KEPT_BELOW

ORGANS = {
    "brainstem": "脑干",
    "spinal cord": "脊髓",
    "right parotid": "右腮腺",
    "left parotid": "左腮腺",
    "mandible": "下颌骨",
}
PHRASES = [  # patterns, and what they become; the longer first where one holds another
    (r"Does distillation help\?", "蒸馏有用吗？"),
    (r"Does distillation help with twenty labelled patients\?", "只有二十名有标注的患者时，蒸馏有用吗？"),
    (
        r"Does distillation help with twenty labelled patients and sixty unlabelled ones\?",
        "有二十名有标注、六十名无标注的患者时，蒸馏有用吗？",
    ),
    (r"Does distillation help with eight labelled patients\?", "只有八名有标注的患者时，蒸馏有用吗？"),
    (r"Does a measured weight do as well as a searched one\?", "测量得到的权重与搜索得到的一样好吗？"),
    (
        r"In the mean of (\d+) seeds? the teacher's Dice is \+([\d.]+) points from the plain student's\. "
        r"(\d+) of (\d+) distilled students are above the plain one \((.*?)\)\. "
        r"Paired over (\d+) test cases and corrected "
        r"for the number "
        r"of methods, p is below 0\.05 for (.*?)\.",
        r"\1 个随机种子取平均，教师的 Dice 比单独训练的学生高 \2 个百分点。\3 个（共 \4 个）蒸馏得到的学生高于"
        r"单独训练的学生（\5）。"
        r"按 \6 个测试病例配对并按方法个数校正后，p 值低于 0.05 的有：\7。",
    ),
    (
        r"made this page: it trains .* last checkpoint\.",
        "生成本页的英文版：它训练并测试尚未完成的运行，然后写出各表。每个随机种子的学生向同一随机种子的教师学习；"
        "所有学生的训练方案相同。每个运行只用其最后一个检查点评分一次。",
    ),
    (
        r"Mean ± standard deviation \(n - 1\) over (\d+) seeds? \((.*?)\), protocol `strict`; \[evaluation\.md"
        r"\]\(evaluation"
        r"\.md\) says .* together\.",
        r"\1 个随机种子（\2）的均值 ± 标准差（n - 1），评价协议为 `strict`；各指标的定义见 [evaluation.md]("
        r"evaluation.zh.md)。"
        "占差距的比例：教师的 Dice 比单独训练的学生高出的部分，弥补了多少。漏检和误报：所有随机种子的器官-病例数合计。",
    ),
    (
        r"For each case the mean .* bootstrap over the cases, (\d+) samples, .* those of the methods \((\d+)\) .* "
        r"table above\.",
        r"每个病例先对随机种子取均值，再求差，并按病例配对。置信区间：对病例做自助法（bootstrap），重采样 \1 "
        r"次，百分位法。"
        r"p 值：Wilcoxon 符号秩检验，双侧；各方法的 p 值按方法的个数（\2）校正（Holm）。"
        r"置信区间和 p 值只反映病例的抽样波动；"
        "结果随随机种子变化多大，见上表的标准差。",
    ),
    (
        r"Seconds per iteration: .* Device: CPU, (\d+) threads, PyTorch (\S+?)\. Other work .* alone\.",
        r"每次迭代的秒数：先取一次运行日志的中位数，再取各随机种子的中位数；小时：一次运行的总时间，包括启动和结束。"
        r"最终使用的网络对所有学生都相同；connector 与之一同训练，之后舍弃。教师自身的训练不计入学生。"
        r"设备：CPU，\1 个线程，PyTorch \2。机器上的其他任务会影响这些时间；`tools/dev/benchmark.py distill` "
        r"单独测量训练步的用时之比。",
    ),
    (
        r"- data: (`\S+`), (\d+) training cases with (\d+) slices, (\d+) test cases\.",
        r"- 数据：\1，\2 个训练病例共 \3 张切片，\4 个测试病例。",
    ),
    (r", (\d+) training cases, (?=\d+ iterations)", r"，\1 个训练病例, "),
    (
        r", (\d+) iterations of (\d+) slices, (\w+), learning rate ([\d.]+)",
        r"，\1 次迭代，每次 \2 张切片，\3，学习率 \4",
    ),
    (r"- (teacher|plain student|plain student, longer): `", r"- \1：`"),
    (
        r"- distilled students: (\d+) further training cases without a label, which the teacher gives them; "
        r"(\d+) slices in all",
        r"- 蒸馏得到的学生：另有 \1 个没有标签的训练病例，由教师给出标签；共 \2 张切片",
    ),
    (r"- options of the methods: (.*); where none is said, the defaults", r"- 各方法的选项：\1；未列出者用默认值"),
    (
        "Differences to the plain student that trained as long as the dearest method",
        "与训练时间同最昂贵方法一样长的单独训练学生的差异",
    ),
    ("Differences to the plain student, case by case", "与单独训练的学生逐病例的差异"),
    (r"Dice \(%\) of each organ, mean over the seeds:", "各器官的 Dice (%)，对随机种子取均值："),
    ("none of them", "无"),
    (" and, below it, for ", "；低于它的有："),
    (r"Dice \(%\) of each seed:", "各随机种子的 Dice (%)："),
    ("Cost of training", "训练开销"),
    ("Data and recipe", "数据与训练方案"),
    ("## Scores", "## 得分"),
    (r"of the gap \(%\)", "占差距的比例 (%)"),
    ("missed and invented", "漏检和误报"),
    (r"(\d+) and (\d+)", r"\1 和 \2"),
    (r"([+-][\d.]+) to ([+-][\d.]+)", r"\1 至 \2"),
    ("95% interval", "95% 置信区间"),
    (
        r"parameters \(M\) \| connectors \(M\) \| s per iteration \| hours",
        "参数量 (M) | connector (M) | 每次迭代的秒数 | 小时",
    ),
    (r"\bseed (\d)", r"随机种子 \1"),
    ("plain student, longer", "单独训练的学生，更久"),
    ("teacher's labels alone", "仅用教师的标签"),
    ("plain student", "单独训练的学生"),
    (r"\bteacher\b(?=：| \|)", "教师"),
    (r"\bn/a\b", "无"),
]
ENGLISH_LEFT = re.compile(r"\b(the|and|of|is|for|student|teacher|seeds?)\b")


def in_chinese(page: str) -> str:
    """The page above the mark, in Chinese; commands and names of configs stay."""
    lines = []
    for line in page.splitlines():
        if not line.startswith("    "):
            for pattern, said in PHRASES:
                line = re.sub(pattern, said, line)
            if line.startswith("|  | brainstem"):
                for organ, name in ORGANS.items():
                    line = line.replace(f" {organ} ", f" {name} ")
            if left := ENGLISH_LEFT.search(re.sub(r"`.*?`|\(\S*\)", "", line)):
                raise SystemExit(f"no Chinese for {left[0]!r} in: {line}")
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the Chinese of each page that is named."""
    for file in map(Path, sys.argv[1:]):
        above = file.read_text(encoding="utf-8").partition(KEPT_BELOW)[0]
        chinese = file.with_suffix(".zh.md")
        below = chinese.read_text(encoding="utf-8").partition(KEPT_BELOW)[2] if chinese.is_file() else "\n"
        write_text(chinese, f"{in_chinese(above)}{KEPT_BELOW}{below}")


if __name__ == "__main__":
    main()
