"""The documentation site: whole, offline, private, readable in the dark and on a phone."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browser
import pytest
from house import ROOT, out_json

from failwb.record.contract import load_contract
from failwb.record.tables import read_json, read_table

LOADS = {"src", "srcset", "poster", "action", "formaction"}  # attributes that make a browser fetch something


class Page(HTMLParser):
    "What a page links to, what it loads, and what can be linked to."

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[k] for k in ("id", "name") if given.get(k)}
        if "href" in given:
            (self.links if tag in ("a", "area") else self.loads).append(given["href"] or "")
        self.loads += [v or "" for k, v in attributes if k in LOADS or (k, tag) == ("data", "object")]


@pytest.fixture(scope="module")
def site(out) -> Path:
    return out / "document"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    found = {p: Page(p) for p in sorted(site.rglob("*.html"))}
    assert found, "the site has no page"
    return found


def remote(address: str) -> bool:
    return bool(urlsplit(address).netloc) or address.startswith("//")


def test_no_page_loads_anything_from_elsewhere(pages):
    assert {p.name: o for p, page in pages.items() for o in page.loads if remote(o)} == {}


def test_no_style_and_no_script_names_a_place_to_load_from(site):
    fetch = re.compile(
        r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//|(?:fetch|import)\(\s*['\"]https?://"
    )
    files = [p for suffix in ("*.css", "*.js", "*.html") for p in sorted(site.rglob(suffix))]
    assert [
        p.relative_to(site).as_posix() for p in files if fetch.search(p.read_text(encoding="utf-8", errors="replace"))
    ] == []


def test_links_lead_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(unescape(link))
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            known = pages.get(target)
            if not target.is_file() or (parts.fragment and known and unquote(parts.fragment) not in known.anchors):
                broken.append(f"{path.relative_to(site)} -> {link}")
    assert sorted(set(broken)) == []


def test_every_pattern_plan_and_change_has_its_place(pages):
    text = "\n".join(page.text for page in pages.values())
    links = {Path(urlsplit(o).path).stem for page in pages.values() for o in page.links}
    patterns = [p["id"] for p in out_json("discover/patterns.json") if p["confirmed"]]
    verdicts = out_json("gate/verdicts.json")
    stems = {p.stem for p in pages} | links
    lacking = [i for i in patterns if not any(i in s for s in stems)]
    lacking += [v["plan"] for v in verdicts if not any(v["plan"][:12] in s for s in stems)]
    assert lacking == []
    assert all(v["plan"][:12] in text for v in verdicts if v["selected"])


def test_executed_notebooks_are_shown(pages):
    shown = [p for p, page in pages.items() if p.parent.name == "experiments" and "cell_output" in page.text]
    done = [t for t in out_json("gate/verdicts.json") if t["verdict"] != "unsealed"]
    assert len(shown) >= len(done) > 0


def test_no_page_names_a_subject_or_a_machine(site, out):
    subjects = set(read_table(out / "validate/events.parquet")["subject"].dropna().unique())
    here = re.compile(rf"{re.escape(str(ROOT))}|/home/\w|/tmp/\w|/root/\w")
    leaks = {}
    for path in [
        p
        for p in sorted(site.rglob("*"))
        if p.suffix in (".html", ".js", ".json", ".md", ".txt", ".ipynb", ".svg", ".inv")
    ]:
        text = path.read_text(encoding="utf-8", errors="replace")
        found = set(re.findall(r"\b[0-9a-f]{16}\b", text)) & subjects or set(here.findall(text))
        if found and "_static" not in path.parts:
            leaks[path.relative_to(site).as_posix()] = sorted(found)[:3]
    assert leaks == {}


def test_no_direct_or_sensitive_field_is_on_a_page(pages):
    hidden = [n for n, f in load_contract(ROOT / "contract.yaml").columns.items() if f.role in ("direct", "sensitive")]
    assert [
        (p.name, n) for p, page in pages.items() for n in hidden if re.search(rf"\b{re.escape(n)}\b", page.text)
    ] == []


# -- in a real browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    if not browser.PROGRAM:
        pytest.skip("no chromium on this machine; `apt-get install chromium` brings one")
    opened = browser.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


def address(path: Path) -> str:
    return path.resolve().as_uri()


def some_pages(site: Path) -> list[Path]:
    "The home page, the page on health, the failure map, and one page of each kind."
    rooms = [
        sorted(p for p in site.glob(f"{room}/*.html") if p.name != "index.html")
        for room in ("patterns", "experiments", "changes")
    ]
    return [site / "index.html", site / "health.html", site / "map.html", *[room[0] for room in rooms if room]]


def test_pages_render_without_network_and_without_complaint(tab, site):
    tab.resize(1280)
    for path in some_pages(site):
        tab.open(address(path))
        assert tab.evaluate("document.querySelector('h1').innerText.trim().length") > 0
        assert [o for o in tab.requests() if urlsplit(o).scheme not in ("file", "data", "blob", "about")] == []
        assert tab.complaints() == [], path.name


def test_search_finds_a_pattern(tab, site):
    pattern = next(p for p in out_json("discover/patterns.json") if p["confirmed"])
    word = max(re.findall(r"[a-z]+", pattern["name"]), key=len)
    tab.open(f"{address(site / 'search.html')}?q={word}")
    found = "[...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
    assert tab.wait(f"{found}.filter(link => link.includes('patterns/'))")  # results come in one by one


def brightness(tab, expression: str) -> float:
    "Relative brightness in [0, 1] of a computed colour."
    red, green, blue = map(float, re.findall(r"[\d.]+", tab.evaluate(expression))[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
def test_it_follows_the_readers_scheme(tab, site, scheme, dark):
    tab.prefer(scheme)
    for path in some_pages(site):
        tab.open(address(path))
        paper = brightness(tab, "getComputedStyle(document.body).backgroundColor")
        ink = brightness(tab, "getComputedStyle(document.querySelector('article p, main p, p')).color")
        assert (paper < 0.5) == dark and abs(paper - ink) > 0.5, f"{path.name}: paper {paper:.2f}, ink {ink:.2f}"


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_sideways(tab, site, width):
    tab.resize(width)
    for path in some_pages(site):
        tab.open(address(path))
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width + 1, f"{path.name} is {wide} px wide on a screen of {width}"


def test_pictures_have_words_and_load(tab, site):
    for path in some_pages(site):
        tab.open(address(path))
        pictures = "[...document.querySelectorAll('article img, main img')]"
        assert tab.evaluate(f"{pictures}.filter(i => i.complete && !i.naturalWidth).map(i => i.src)") == []
        assert tab.evaluate(f"{pictures}.filter(i => !i.alt).map(i => i.src)") == [], path.name


# -- the failure map in the browser

CHART = "document.querySelector('.fw-explorer')"


def pointer(kind: str, x: str, y: str) -> str:
    "A script that moves a mouse over the chart to (x, y) of its canvas."
    where = f"clientX: b.left + {x}, clientY: b.top + {y}"
    event = f"new PointerEvent('{kind}', {{pointerId: 1, pointerType: 'mouse', bubbles: true, {where}}})"
    return (
        f"(() => {{ const s = {CHART}.querySelector('canvas'), b = s.getBoundingClientRect();"
        f" s.dispatchEvent({event}); }})()"
    )


@pytest.fixture
def chart(tab, site):
    tab.resize(1280)
    tab.open(address(site / "map.html"))
    tab.wait(f"{CHART}.dataset.ready")
    return tab


DATA = f"JSON.parse({CHART}.querySelector('script').textContent)"


def test_a_point_of_the_map_says_what_it_is(chart):
    which = f"(() => {{ const d = {DATA}; return d.ways[0].codes.findIndex(c => c === 0); }})()"
    x, y = (f"({DATA}.{axis}[{which}] / 1000)" for axis in "xy")
    canvas = f"{CHART}.querySelector('canvas')"
    chart.evaluate(pointer("pointermove", f"{canvas}.clientWidth * {x}", f"{canvas}.clientHeight * (1 - {y})"))
    told = chart.evaluate(f"{CHART}.querySelector('.fw-tip').innerText")
    assert {"pattern", "symptom", "severity", "week"} <= {line.split()[0] for line in told.splitlines() if line.strip()}
    assert chart.complaints() == []


def test_the_legend_follows_the_colours_hides_a_level_and_leads_to_patterns(chart, site):
    first = f"{CHART}.querySelector('.fw-level')"
    link = chart.evaluate(f"{first}.querySelector('a').getAttribute('href')")
    assert (site / link).is_file()
    ink = f"(() => {{ const c = {CHART}.querySelector('canvas'); return c.toDataURL().length; }})()"
    before = chart.evaluate(ink)
    chart.evaluate(f"{first}.querySelector('button').click()")
    assert chart.evaluate(f"{first}.className").endswith("fw-off") and chart.evaluate(ink) != before
    by = f"{CHART}.querySelector('.fw-by')"
    chart.evaluate(f"{by}.value = '1', {by}.dispatchEvent(new Event('change'))")
    assert "Misprediction" in chart.evaluate(f"{CHART}.querySelector('.fw-legend').innerText")


def test_the_map_zooms_and_goes_back(chart):
    picture = f"{CHART}.querySelector('canvas').toDataURL()"
    whole = chart.evaluate(picture)
    chart.evaluate(f"{CHART}.querySelector('.fw-in').click()")
    assert chart.evaluate(picture) != whole
    chart.evaluate(f"{CHART}.querySelector('.fw-all').click()")
    assert chart.evaluate(picture) == whole


def test_the_map_names_no_failure(site, out):
    text = (site / "map.html").read_text(encoding="utf-8")
    failures = read_table(out / "catalog/failures.parquet")
    named = {i for column in ("failure_id", "event_id", "subject") for i in failures[column].dropna()}
    assert not named & set(re.findall(r"[0-9A-Za-z-]{8,}", text))
    guide = (site / "guides/01_first_verdict.html").read_text(encoding="utf-8")
    assert "&quot;ids&quot;:[]" in guide  # a notebook's map names them; published, it does not
    confirm = read_table(out / "split/confirm.parquet", ["event_id"])["event_id"]
    assert not set(read_table(out / "map/points.parquet")["event_id"]) & set(confirm)


def test_the_trade_offs_of_every_tested_pattern_are_drawn_and_listed(site):
    "A picture with a text of its own, and the table behind it: on the pattern's page, and on that of each experiment."
    plans = {p.stem: read_json(p) for p in sorted((ROOT / "out/propose/plans").glob("*.json"))}
    remedies, seen = out_json("propose/remedies.json"), []
    for id, plan in plans.items():
        simulated = [r for r in remedies if r["pattern"] == plan["pattern"] and r["effect"] is not None]
        for path in (site / f"patterns/{plan['pattern'][:12]}.html", site / f"experiments/{id[:12]}.html"):
            page = path.read_text(encoding="utf-8")
            picture = re.search(r'<div class="fw-plane"><svg[^>]*role="img" aria-label="([^"]+)"><title>', page)
            assert picture and "Pareto front" in picture[1]
            drawn = page[picture.start() : page.index("</svg>", picture.start())]
            assert drawn.count("<circle") + drawn.count("<rect") == 3 * len(simulated) > 3
            rows = page[picture.end() :].split("<tbody>")[1].split("</tbody>")[0]
            assert rows.count("<tr") == len(simulated) and "The served model" in rows
            assert f"{next(r['bytes'] for r in simulated if r['remedy'] == plan['remedy']):,}" in rows
            seen.append(path)
    assert len(seen) >= 6
