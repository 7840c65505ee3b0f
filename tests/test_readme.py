"""The READMEs are in step with each other and with the files that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = "README.md", "README_zh-CN.md"
PUBLIC = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES = [ENGLISH, CHINESE, *PUBLIC, *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))]
PLANNED = re.compile(r"\bplanned: |计划中：")
READERS_OWN = re.compile(r"configs/(my/|fcn-unet-s5-d16_unet_|unet/unet_r18v1c_d8_80k_synapse.py)")
METHODS = {
    *("FCN-R18", "FCN-R50", "UNet-R18", "UNet-R50", "Att-UNet", "MedNeXT", "MISSFormer", "TransU-Net", "Swin-UNETR"),
    *("KD", "AT", "DKD", "DIST", "CWD", "ReviewKD", "LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD"),
}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def local_links(page: str) -> list[str]:
    links = re.findall(r"\]\(([^)]+)\)", without_code(read(page)))
    return [link for link in links if not link.startswith(("http", "#"))]


def addresses(page: str) -> list[str]:
    found = re.findall(r"https?://[^\s)}>`）]+", read(page))
    return [re.sub(r"/zh[-_]cn/", "/en/", address, flags=re.IGNORECASE) for address in found]


def commands(page: str) -> list[str]:
    """Lines of all code blocks but the layout, which is prose; without comments."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", read(page), flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].rstrip() for kind, block in blocks if kind != "text" for line in block.splitlines()]
    return [line for line in lines if line]


def table_cells(page: str) -> list[list[str]]:
    """The code spans and links of each table row, which are the same in every language."""
    rows = [line for line in read(page).splitlines() if line.startswith("|")]
    return [re.findall(r"`[^`]+`|\]\([^)]+\)", row.replace("<配置名>", "<config name>")) for row in rows]


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


@pytest.mark.parametrize("part", [addresses, commands, table_cells, named_configs])
def test_both_languages_say_the_same(part) -> None:
    assert part(ENGLISH)
    assert part(CHINESE) == part(ENGLISH)


def test_both_languages_have_the_same_headings_and_links() -> None:
    levels = [re.findall(r"^#+ ", without_code(read(page)), flags=re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert levels[0] == levels[1]
    links = [[CHINESE if link == ENGLISH else link for link in local_links(page)] for page in (ENGLISH, CHINESE)]
    assert sorted(links[0]) == sorted(links[1])


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
