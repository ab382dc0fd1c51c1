"""What a user can name is explained: commands, parameters, remedies, templates, terms; and what is explained exists."""

import re
from html import unescape

import pytest
import yaml
from house import ROOT, commands, failwb, notebooks, read_notebook, room, settings

from failwb.publish.reference import TASK_WORDS
from failwb.publish.worked import WORKED
from failwb.record.plugins import known, tasks_of
from failwb.record.taxonomy import SCALES, describe

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
GUIDES = "\n".join(c.source for p in notebooks() if room(p) == "guides" for c in read_notebook(p).cells)
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
TERMS = [(scale, term) for scale, terms in SCALES.items() for term in terms]
TEMPLATES = [p for p in notebooks() if room(p) == "templates"]


@pytest.mark.parametrize("name", commands())
def test_a_command_is_explained(name):
    assert re.search(rf"`?failwb {name}\b", PAGES["README.md"] + GUIDES), (
        f"neither README.md nor a guide shows `failwb {name}`"
    )


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_a_page_tells_to_type_exists(page):
    text = "\n".join(re.findall(r"`([^`\n]+)`", PAGES[page]) + re.findall(r"^ {4}(\S.*)$", PAGES[page], re.M))
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", text))
    assert sorted(targets - MAKE_TARGETS) == []
    words = set(re.findall(r"(?:^|&& |bin/)failwb ([a-z]+)", text, re.M))
    assert sorted(words - {name.split()[0] for name in commands()}) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_a_page_names_exist(page):
    links = [t for t in re.findall(r"\]\(([^)#\s]+)", PAGES[page]) if "://" not in t and not t.startswith("out/")]
    files = re.findall(r"`((?:nbs|tests|failwb|samples|ledger|\.github|\.ci)/[\w./-]+)`", PAGES[page])
    assert [t for t in links + files if not (ROOT / t).exists()] == []


def test_a_page_needs_no_network_to_be_read():
    assert [p for p, text in PAGES.items() if re.search(r"!\[[^\]]*\]\(https?:", text)] == []


def test_the_changelog_has_the_version():
    assert re.search(rf"^## {re.escape(settings()['version'])}\b", PAGES["CHANGELOG.md"], re.M)


def parameters() -> list[str]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) if (ROOT / "params.yaml").is_file() else {}
    return [f"{section}.{key}" for section, values in params.items() for key in values or {}]


@pytest.mark.parametrize("parameter", parameters())
def test_a_parameter_has_a_comment(parameter):
    section, key = parameter.split(".")
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    start = lines.index(next(line for line in lines if re.match(rf"{section}:", line)))
    at = next(i for i in range(start + 1, len(lines)) if re.match(rf"\s+{key}:", lines[i]))
    assert re.search(r"#\s*\S", lines[at]) or re.match(r"\s*#\s*\S", lines[at - 1])


@pytest.mark.parametrize(
    "column",
    yaml.safe_load((ROOT / "contract.yaml").read_text())["columns"] if (ROOT / "contract.yaml").is_file() else [],
)
def test_a_field_of_the_sample_has_a_meaning(column):
    field = yaml.safe_load((ROOT / "contract.yaml").read_text())["columns"][column]
    assert field.get("description") or re.search(rf"#[^\n]*\n\s+{column}:", (ROOT / "contract.yaml").read_text())


@pytest.mark.parametrize("name, remedy", known("remedy").items())
def test_a_remedy_says_what_when_and_at_what_price(name, remedy):
    texts = {field: getattr(remedy, field, "") for field in ("term", "what", "when", "trade_off", "rollback", "source")}
    assert [field for field, text in texts.items() if len(str(text).split()) < (1 if field == "term" else 3)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_a_template_is_explained(path):
    assert f"`{path.relative_to(ROOT).as_posix()}`" in PAGES["CONTRIBUTING.md"]
    assert sum(c.cell_type == "markdown" for c in read_notebook(path).cells) >= 3


@pytest.mark.parametrize("scale, term", TERMS)
def test_a_term_has_a_sentence(scale, term):
    assert re.fullmatch(r"[A-Z].{15,}\.", SCALES[scale][term], re.S)
    assert describe(term) in [terms.get(term) for terms in SCALES.values()]


@pytest.fixture(scope="module")
def site(out) -> str:
    "The text of all pages of the site, without markup."
    pages = sorted((out / "document").rglob("*.html"))
    assert pages
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", p.read_text(encoding="utf-8"))) for p in pages)
    return " ".join(text.replace("\u2019", "'").split())  # the site sets typographic apostrophes


@pytest.mark.parametrize("scale, term", TERMS)
def test_the_site_explains_a_term(site, scale, term):
    assert " ".join(SCALES[scale][term].split()) in site


@pytest.mark.parametrize("name, remedy", known("remedy").items())
def test_the_site_has_a_page_for_a_remedy(site, name, remedy):
    assert remedy.term.lower() in site.lower() and " ".join(remedy.trade_off.split()) in site


@pytest.mark.parametrize("name, remedy", known("remedy").items())
def test_a_remedy_s_page_says_everything(out, name, remedy):
    page = (out / f"document/reference/remedies/{name}.html").read_text(encoding="utf-8")
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u2019", "'").split())
    words = [getattr(remedy, field) for field in ("when", "library", "trade_off", "rollback", "source", "risk")]
    words += [*remedy.ranges, *remedy.ranges.values(), *map(TASK_WORDS.get, tasks_of(remedy))]
    words += [WORKED[name]["wrong"].replace("*", ""), remedy.term]
    said = "".join(text.split()).lower()  # markup stands between words of a sentence
    missing = [w for w in words if "".join(w.split()).lower() not in said]
    assert missing == []
    assert all(f'id="{section}"' in page for section in ("parameters", "an-example", "how-it-did-here"))


def test_the_figures_in_the_readme_are_printed_by_a_command(out):
    block = PAGES["README.md"].split("figures of the sample: begin -->")[1].split("<!-- figures of the sample: end")[0]
    told = [line for line in block.splitlines() if line.startswith("|")]
    printed = failwb("summary").stdout.splitlines()
    assert len(told) > 8
    assert [line for line in told if line not in printed] == []
