"""The READMEs and the pages are in step with the files that they name."""

import re

import pytest

from tests.pages import ROOT, read, tables

ENGLISH, CHINESE = "README.md", "README_zh-CN.md"
PUBLIC = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES = [ENGLISH, CHINESE, *PUBLIC, *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*.md")))]
PLANNED = re.compile(r"\bplanned: |计划中：")
READERS_OWN = re.compile(r"configs/(my/|fcn-unet-s5-d16_unet_|unet/unet_r18v1c_d8_80k_synapse.py)")
METHODS = {
    *("FCN-R18", "FCN-R50", "UNet-R18", "UNet-R50", "Att-UNet", "MedNeXT", "MISSFormer", "TransU-Net", "Swin-UNETR"),
    *("KD", "AT", "DKD", "DIST", "CWD", "ReviewKD", "LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD"),
}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def local_links(page: str) -> list[str]:
    links = re.findall(r"\]\(([^)]+)\)", without_code(read(page)))
    return [link for link in links if not link.startswith(("http", "#"))]


def named_configs(page: str) -> dict[str, bool]:
    """Each config path that a page names, and whether its line calls it planned."""
    found: dict[str, bool] = {}
    for line in read(page).splitlines():
        for path in re.findall(r"\bconfigs/[\w./-]*\w", line):
            found[path] = bool(PLANNED.search(line))
    return found


def anchors(page: str) -> set[str]:
    """Anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", without_code(read(page)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_the_results_are_those_of_the_page(page: str) -> None:
    """Each row but for its name, which is translated."""
    rows = [row[1:] for table in tables(page) for row in table if "±" in row[-1]]
    both = [tables(each)[0][1:] for each in ("docs/results.md", "docs/results_8cases.md")]
    assert rows == [[row[1] for row in same] for same in zip(*both, strict=True)] and len(rows) == 15


@pytest.mark.parametrize("page", PAGES)
def test_local_links_resolve(page: str) -> None:
    missing = [link for link in local_links(page) if not ((ROOT / page).parent / link.split("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_contents_lead_to_headings(page: str) -> None:
    targets = re.findall(r"\]\(#([^)]+)\)", read(page))
    assert targets
    assert set(targets) <= anchors(page)


@pytest.mark.parametrize("page", PAGES)
def test_named_configs_exist_unless_planned(page: str) -> None:
    for path, planned in named_configs(page).items():
        if not READERS_OWN.match(path):
            assert (ROOT / path).exists() != planned, f"{path} {'exists' if planned else 'is missing'}"


@pytest.mark.parametrize("page", PAGES)
def test_named_scripts_exist(page: str) -> None:
    scripts = set(re.findall(r"(?:python|torchrun --nproc_per_node \d) ([\w/]+\.py)", read(page)))
    assert not [script for script in scripts if not (ROOT / script).is_file()]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_method_tables_are_complete(page: str) -> None:
    assert set(re.findall(r"^\| ([\w-]+) \|", read(page), flags=re.MULTILINE)) >= METHODS


def test_every_reference_is_one_entry() -> None:
    text = read("docs/references.bib")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert keys and len(keys) == len(set(keys)) == len(re.findall(r"^\}$", text, flags=re.MULTILINE))
    assert text.count("{") == text.count("}")
