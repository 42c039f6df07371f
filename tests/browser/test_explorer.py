"""The explorer as its reader meets it: a file opened in a browser, used by mouse, by keyboard and by link."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.random_run import CONTROL, HOSTILE
from tests.browser.reader import cell, chart, choose, moved, settled, show, shown, signed, silent_and_alone, state, text

CHOSEN = {
    "run": "one",
    "model": "whole",
    "ablation": "zero",
    "tokens": "all",
    "head": "L1H3",
    "colour": "direct_effect",
    "prune": "10",
    "pins": "L2H0 L0H1",
}
MINUS = "\N{MINUS SIGN}"
MOVES = {"ArrowRight": "L1H2", "ArrowUp": "L2H2", "ArrowDown": "L1H2", "Home": "L1H0", "End": "L1H3"}


@pytest.fixture
def page(browser: Browser, explorer: Path) -> Iterator[Page]:
    """An open explorer; whatever a test does, the page must neither complain nor ask for anything."""
    opened = show(browser, explorer)
    yield opened
    silent_and_alone(opened, explorer)


def data(explorer: Path, model: str) -> dict:
    return json.loads((explorer.parent / "one/analysis" / model / "explorer.json").read_text())


def test_it_opens_with_the_head_that_is_repaired_most(page: Page, explorer: Path) -> None:
    assert state(page) == {
        "run": "one",
        "model": "whole",
        "ablation": "resample",
        "tokens": "top",
        "statistic": "mean",
        "quantity": "self_repair",
        "head": data(explorer, "whole")["start"],
        "colour": "direct_effect",
        "prune": "0",
    }
    for name in ("grid", "split", "responders", "scatter"):
        assert len(chart(page, name)) > 20


def test_a_click_on_a_cell_changes_every_panel_and_the_address(page: Page) -> None:
    before = shown(page)
    target = next(head for head in ("L1H1", "L1H2") if head != state(page)["head"])
    page.click(cell(target))
    moved(page, target)
    after = shown(page)
    assert all(before[panel] != after[panel] for panel in before), after
    assert target in after["#head-title"] and target in after["split"]
    page.evaluate("history.back()")
    page.wait_for_function(f"!location.hash.includes('head={target}')")
    settled(page)
    assert shown(page) == before


def test_panels_show_the_numbers_of_the_data(page: Page, explorer: Path) -> None:
    known = data(explorer, "whole")
    index = known["heads"].index("L2H1")
    page.click(cell("L2H1"))
    moved(page, "L2H1")
    value, low, high = known["statistics"]["resample"]["top"]["mean"]["self_repair"][index]
    _, documents, _ = known["counts"]["resample"]["top"]["mean"][index]
    counted = f"12 tokens of {documents} documents"
    sentence = f"{signed(value)} logits, 95 % interval {signed(low)} to {signed(high)}; {counted}"
    assert sentence in text(page, "#status")
    for quantity, of_heads in known["statistics"]["resample"]["top"]["mean"].items():
        assert signed(of_heads[index][0]) in text(page, "#effects"), quantity
    drawn = page.evaluate("document.querySelectorAll('#contexts li').length")
    assert drawn == len(known["contexts"][index]) == 12
    coloured = page.evaluate("document.querySelectorAll('#contexts .kept').length")
    assert coloured == sum(len(context["kept"]) for context in known["contexts"][index])


def test_arrow_keys_move_the_chosen_head(page: Page) -> None:
    choose(page, "layer", "1")
    choose(page, "head", "1")
    page.evaluate("document.querySelector('#grid-keys').focus()")
    for key, head in MOVES.items():
        page.keyboard.press(key)
        moved(page, head)
        assert head in text(page, "#status")
    assert page.evaluate("document.activeElement.id") == "grid-keys"


def test_the_tab_key_reaches_every_control_and_shows_where_it_is(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(13):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
    lists = ["run", "model", "ablation", "tokens", "statistic", "quantity", "layer", "head"]
    assert reached[:10] == [*lists, "download", "grid-keys"]


def test_medians_over_all_tokens_are_said_to_be_of_the_control_sample(page: Page) -> None:
    choose(page, "tokens", "all")
    assert "all tokens" in text(page, "#grid-caption") and "; 234 tokens of 6 documents" in text(page, "#status")
    choose(page, "statistic", "median")
    for place in ("#grid-caption", "#status"):
        assert "self-repair (median), control sample" in text(page, place)
    assert f"; {CONTROL} tokens of 5 documents" in text(page, "#status")
    assert "(median), control sample" in chart(page, "grid")
    assert "all tokens" in text(page, "#head-about") and "medians are of the control sample" in text(page, "#effects")
    choose(page, "tokens", "top")
    assert "control sample" not in text(page, "main > .panels")


def test_where_only_selected_tokens_were_measured_the_others_are_the_control_sample(page: Page) -> None:
    option = "select[name=tokens] option[value=all]"
    assert text(page, option) == "all tokens"
    choose(page, "run", "two")
    assert text(page, option) == "control sample"
    choose(page, "tokens", "all")
    for place in ("#grid-caption", "#status", "#head-about"):
        assert "control sample" in text(page, place)
    assert f"; {CONTROL} tokens of 5 documents" in text(page, "#status")
    assert "medians are of" not in text(page, "#effects")
    assert "all tokens" not in page.evaluate("document.querySelector('main').innerText")


def test_what_rounds_to_zero_has_no_sign(page: Page) -> None:
    choose(page, "run", "two")
    assert ": 0.000 logits, " in text(page, "#status")
    assert "0.000" in text(page, "#effects") and f"{MINUS}0.000" not in text(page, "#effects")
    assert f"{MINUS}0.000" not in chart(page, "split")
    labels = page.evaluate("[...document.querySelectorAll('#grid path[aria-label^=L]')].map((c) => c.ariaLabel)")
    assert len(labels) == 2 and all(": 0.000, " in label for label in labels)


def test_who_repairs_a_head_is_named_only_if_somebody_does(page: Page, explorer: Path) -> None:
    choose(page, "layer", "0")
    choose(page, "head", "0")
    assert "None repairs on average" in chart(page, "responders")
    known = data(explorer, "whole")["responders"]["resample"]["top"]
    choose(page, "head", "1")
    (value, part, layer) = max(
        (value, label, layer)
        for part, label, first in (("attention", "attention", 1), ("mlp", "MLP", 0))
        for layer, value in enumerate(known[part][1])
        if layer >= first
    )
    assert f"Largest: {part} of layer {layer}, {signed(value)} logits" in chart(page, "responders")


def test_a_link_restores_what_was_shown(browser: Browser, explorer: Path) -> None:
    wanted = CHOSEN | {"statistic": "share", "quantity": "repair_mlp"}
    page = show(browser, explorer, "#" + urlencode(wanted))
    assert state(page) == wanted
    assert "repair by MLPs (share of direct effect, ratio of sums), control sample, zero ablation" in text(
        page, "#status"
    )
    assert page.evaluate("document.querySelector('input[name=colour]:checked').value") == "direct_effect"
    for name in ("run", "model", "ablation", "tokens", "statistic", "quantity", "prune"):
        assert page.evaluate(f"document.querySelector('[name={name}]').value") == wanted[name]
    pinned = page.evaluate("[...document.querySelectorAll('#pins tbody a')].map((link) => link.textContent)")
    assert pinned == ["L2H0", "L0H1"]
    assert page.evaluate("document.querySelector('#refused').hidden")
    silent_and_alone(page, explorer)


@pytest.mark.parametrize(
    "fragment, refused",
    [
        ("#head=L9H9&model=none&run=?&ablation=zero", "run ?, model none, head L9H9"),
        ("#quantity=%3Cb%3E&statistic=median", "quantity <b>"),
        ("#pins=L1H1+L7H7&prune=99", "prune 99, pin L7H7"),
        ("#%", "% "),
    ],
)
def test_a_link_to_what_is_not_there_says_so_and_shows_what_is(
    browser: Browser, explorer: Path, fragment: str, refused: str
) -> None:
    page = show(browser, explorer, fragment)
    assert state(page)["model"] == "whole" and state(page)["quantity"] == "self_repair"
    assert page.is_visible("#refused")
    said = text(page, "#refused").partition("not here: ")[2].removesuffix(". It was ignored.")
    assert sorted(said.split(", ")) == sorted(refused.split(", "))
    assert ("pins" in state(page)) == ("L1H1" in fragment) and state(page)["prune"] == "0"
    choose(page, "tokens", "all")
    assert page.evaluate("document.querySelector('#refused').hidden")
    silent_and_alone(page, explorer)


def pinned(page: Page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('#pins tbody tr')].map((row) => row.textContent)")


def test_pinned_heads_are_compared_and_kept_by_the_address(page: Page, explorer: Path) -> None:
    for head in ("L1H2", "L0H3"):
        page.click(cell(head))
        moved(page, head)
        page.click("#pin")
        page.wait_for_function(f"location.hash.endsWith('{head}')")
        settled(page)
        assert text(page, "#pin") == "Unpin"
    of_quantities = data(explorer, "whole")["statistics"]["resample"]["top"]["mean"]
    heads = data(explorer, "whole")["heads"]
    assert state(page)["pins"] == "L1H2 L0H3" and len(pinned(page)) == 2
    for row, head in zip(pinned(page), ("L1H2", "L0H3"), strict=True):
        for of_heads in of_quantities.values():
            value, low, high = map(signed, of_heads[heads.index(head)])
            assert head in row and f"{value} ({low} to {high})" in row.replace("\N{NO-BREAK SPACE}", " ")
    frames = "document.querySelectorAll('#grid path[stroke-dasharray=\"3,2\"]').length"
    assert page.evaluate(frames) == 2 * 2
    page.click("[aria-label='Unpin L1H2']")
    page.wait_for_function("location.hash.endsWith('pins=L0H3')")
    settled(page)
    assert len(pinned(page)) == 1 and page.evaluate(frames) == 2
    assert page.evaluate("document.activeElement.id") == "head-title", "the button that had the focus is gone"
    for step, pins in (("back", ["L1H2", "L0H3"]), ("forward", ["L0H3"])):
        page.evaluate(f"history.{step}()")
        page.wait_for_function(f"location.hash.endsWith('pins={'+'.join(pins)}')")
        settled(page)
        assert len(pinned(page)) == len(pins) and all(map(str.startswith, pinned(page), pins))


def kept_of(values: list[float], percent: int) -> list[float]:
    total = sum(map(abs, values))
    return [value for value in values if abs(value) >= percent / 100 * total]


def test_small_responders_are_hidden_and_the_rest_is_summed(page: Page, explorer: Path) -> None:
    choose(page, "layer", "0")
    choose(page, "head", "1")
    known = data(explorer, "whole")
    of_layers = known["responders"]["resample"]["top"]
    layers = of_layers["attention"][1][1:] + of_layers["mlp"][1]
    heads = [pair["value"] for pair in known["hand_off"] if (pair["layer"], pair["head"]) == (0, 1)]
    assert len(layers) == 5 and len(heads) == 8
    steps = page.evaluate("history.length")
    for name in ("responders", "hand_off"):
        page.evaluate(f"document.querySelector('#{name}-values').open = true")
    page.focus("#prune")
    for percent in range(1, 16):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"location.hash.includes('prune={percent}&')")
    settled(page)
    assert text(page, "#prune-share") == "15 %"
    for name, values in (("responders", layers), ("hand_off", heads)):
        kept = kept_of(values, 15)
        assert 0 < len(kept) < len(values)
        said = text(page, f"#{name}-kept")
        share = 100 * sum(map(abs, kept)) / sum(map(abs, values))
        assert said.startswith(f"{len(kept)} of {len(values)} are shown: {share:.0f} % of all responses by size.")
        assert said.endswith(f"They sum to {signed(sum(kept))} logits, all to {signed(sum(values))}.")
        assert page.evaluate(f"document.querySelectorAll('#{name}-values tbody tr').length") == len(kept)
    bars = "#responders [aria-roledescription=bar]"
    assert page.evaluate(f"document.querySelectorAll('{bars}').length") == len(kept_of(layers, 15))
    assert page.evaluate("history.length") == steps, "a slider that is drawn leaves no steps behind"


def test_later_heads_that_repair_a_head_are_shown_and_lead_on(page: Page, explorer: Path) -> None:
    choose(page, "layer", "1")
    choose(page, "head", "2")
    pairs = [pair for pair in data(explorer, "whole")["hand_off"] if (pair["layer"], pair["head"]) == (1, 2)]
    labels = page.evaluate("[...document.querySelectorAll('#hand_off path[aria-label^=L]')].map((c) => c.ariaLabel)")
    assert sorted(labels) == sorted(f"L2H{pair['later_head']}: {signed(pair['value'])}" for pair in pairs)
    page.click("#hand_off path[aria-label^='L2H3:']")
    moved(page, "L2H3")
    assert page.evaluate("document.querySelector('#hand_off-shown').hidden"), "nothing is later"
    choose(page, "model", "partial")
    assert page.evaluate("document.querySelector('#hand_off-shown').hidden"), "nothing is known"


def test_promoted_and_suppressed_tokens_are_listed(page: Page, explorer: Path) -> None:
    known = data(explorer, "whole")
    lens = known["lens"][known["heads"].index(state(page)["head"])]
    rows = page.evaluate(
        "[...document.querySelectorAll('#lens tbody tr')].map((row) => [...row.children].map((c) => c.textContent))"
    )
    expected = [
        [text.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}").replace(" ", "\N{MIDDLE DOT}"), signed(effect)]
        for sign in ("promoted", "suppressed")
        for text, effect in lens[sign]
    ]
    assert [row[:2] for row in rows] + [row[2:] for row in rows] == expected


def downloaded(page: Page) -> dict:
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "{run}-{model}-{head}.json".format(**state(page))
    return json.loads(Path(download.value.path()).read_text())


def test_what_is_shown_can_be_downloaded(browser: Browser, explorer: Path) -> None:
    page = show(browser, explorer, "#head=L1H2&prune=20&pins=L0H0&statistic=share")
    known, saved = data(explorer, "whole"), downloaded(page)
    assert {"run": saved["run"], "model": saved["model"]} | saved["state"] == state(page)
    sections = saved["sections"]
    assert {"grid", "pins", "effects", "split", "responders", "hand_off", "lens", "scatter", "contexts"} == set(
        sections
    )
    index = known["heads"].index("L1H2")
    shares = known["statistics"]["resample"]["top"]["share"]["self_repair"]
    assert [[row[key] for key in ("value", "low", "high")] for row in sections["grid"]["rows"]] == shares
    assert sections["grid"]["units"] == dict.fromkeys(("value", "low", "high"), "ratio")
    (pin,) = sections["pins"]["rows"]
    assert pin["head"] == "L0H0" and pin["self_repair value"] == shares[0][0]
    mean = {row["effect"]: row for row in sections["effects"]["rows"]}["self-repair"]
    assert [mean[k] for k in ("value", "low", "high")] == known["statistics"]["resample"]["top"]["mean"]["self_repair"][
        index
    ]
    assert sections["effects"]["units"]["value"] == "logits" and sections["effects"]["units"]["share"] == "ratio"
    of_layers = known["responders"]["resample"]["top"]
    layers = of_layers["attention"][index][2:] + of_layers["mlp"][index][1:]
    assert [row["value"] for row in sections["responders"]["rows"]] == kept_of(layers, 20)
    assert sections["contexts"]["rows"] == known["contexts"][index]
    page.click(cell("L2H3"))
    moved(page, "L2H3")
    sections = downloaded(page)["sections"]
    assert {"neurons", "erasure"} <= set(sections) and not {"hand_off"} & set(sections)
    assert [row["name"] for row in sections["neurons"]["rows"]] == [
        f"MLP {entry['mlp_layer']} neuron {entry['neuron']}" for entry in known["neurons"]["L2H3"]["frequency"]
    ]
    silent_and_alone(page, explorer)


def test_tokens_can_be_coloured_by_self_repair(page: Page) -> None:
    colours = "[...document.querySelectorAll('#contexts .kept')].map((token) => token.style.backgroundColor)"
    before = page.evaluate(colours)
    page.click("input[value=self_repair]")
    page.wait_for_function("location.hash.includes('colour=self_repair')")
    settled(page)
    assert "self-repair" in text(page, "#scale-unit")
    assert page.evaluate(colours) != before


def test_text_of_a_corpus_stays_text(page: Page) -> None:
    assert page.evaluate("document.querySelector('img')") is None
    choose(page, "layer", "2")
    choose(page, "head", "3")
    assert HOSTILE in text(page, "#erasure")
    assert page.evaluate("document.querySelector('#contexts').textContent.includes('onerror')")
    page.evaluate("document.querySelector('#scatter-values').open = true")
    page.wait_for_function("document.querySelectorAll('#scatter-values tbody tr').length === 32")


def test_tables_hold_the_values_and_choose_heads(page: Page, explorer: Path) -> None:
    page.evaluate("document.querySelector('#grid-values').open = true")
    page.wait_for_function("document.querySelectorAll('#grid-values tbody tr').length === 12")
    page.click("#grid-values tbody tr:nth-child(3) a")
    moved(page, "L0H2")
    assert "L0H2" in text(page, "#head-title")


def test_neurons_are_shown_where_they_were_measured(page: Page) -> None:
    choose(page, "layer", "2")
    choose(page, "head", "3")
    assert page.evaluate("document.querySelectorAll('#neurons svg').length") == 1
    choose(page, "head", "0")
    assert page.evaluate("document.querySelector('#neurons-shown').hidden")
    assert "chosen heads only, under resample ablation: L2H3" in text(page, "#neurons-measured")
    page.click("#neurons-measured a")
    moved(page, "L2H3")
    assert not page.evaluate("document.querySelector('#neurons-shown').hidden")
    assert text(page, "#neurons-measured a[aria-current]") == "L2H3"


def test_the_neuron_that_changes_most_often_is_named(page: Page, explorer: Path) -> None:
    choose(page, "layer", "2")
    choose(page, "head", "3")
    most = max(data(explorer, "whole")["neurons"]["L2H3"]["frequency"], key=lambda entry: entry["value"])
    name = f"MLP {most['mlp_layer']} neuron {most['neuron']}"
    assert f"most often {name}, on {100 * most['value']:.0f} % of top tokens" in chart(page, "neurons")


@pytest.mark.parametrize("place, head", [("#grid-values", "L0H2"), ("#neurons-measured", "L2H3")])
def test_a_link_that_is_followed_by_keyboard_keeps_the_focus(page: Page, place: str, head: str) -> None:
    choose(page, "layer", "1")
    page.evaluate("document.querySelector('#grid-values').open = true")
    page.wait_for_function("document.querySelectorAll('#grid-values tbody tr').length === 12")
    page.evaluate(f"[...document.querySelectorAll('{place} a')].find((a) => a.textContent === '{head}').focus()")
    page.keyboard.press("Enter")
    moved(page, head)
    focused = "document.activeElement"
    assert page.evaluate(f"[{focused}.textContent, {focused}.closest('{place}') !== null]") == [head, True]


def test_the_focus_goes_to_the_title_where_its_link_is_gone(page: Page) -> None:
    choose(page, "model", "partial")
    choose(page, "model", "whole")
    page.evaluate("document.querySelector('#grid-values').open = true")
    page.wait_for_function("document.querySelectorAll('#grid-values tbody tr').length === 12")
    page.evaluate("[...document.querySelectorAll('#grid-values a')].find((a) => a.textContent === 'L1H1').focus()")
    page.evaluate("history.back()")
    page.wait_for_function("location.hash.includes('model=partial')")
    settled(page)
    page.wait_for_function("document.activeElement.id === 'head-title'")


def test_heads_left_out_are_grey_and_cannot_be_chosen(page: Page) -> None:
    choose(page, "model", "partial")
    assert page.evaluate("document.querySelectorAll('#grid path[aria-label^=L]').length") == 4
    assert "Grey: heads that were not measured" in text(page, "#grid-caption")
    layers = page.evaluate("[...document.querySelectorAll('select[name=layer] option')].map((o) => o.value)")
    assert layers == ["0", "2"]
    page.evaluate("document.querySelector('#grid-keys').focus()")
    choose(page, "layer", "0")
    page.keyboard.press("ArrowUp")
    page.wait_for_function("location.hash.includes('head=L2')")


def test_a_model_of_one_layer_is_repaired_by_the_norm_alone(page: Page) -> None:
    choose(page, "run", "two")
    assert state(page)["model"] == "flat"
    assert page.evaluate("document.querySelector('#responders-shown').hidden")
    assert "none in this model" in text(page, "#neurons-measured")


def test_a_narrow_window_does_not_scroll_sideways(browser: Browser, explorer: Path) -> None:
    page = show(browser, explorer, "#" + urlencode(CHOSEN | {"head": "L2H3"}), width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    ends = "[...document.querySelectorAll('.chart svg')].map((svg) => svg.getBoundingClientRect().right)"
    widths = page.evaluate(ends)
    assert len(widths) == 5 and max(widths) <= 400
    silent_and_alone(page, explorer)


def test_every_control_and_chart_has_a_name(page: Page) -> None:
    assert page.evaluate("[...document.querySelectorAll('select, input')].every((c) => c.labels[0].textContent.trim())")
    drawn = "[...document.querySelectorAll('.chart:has(svg)')]"
    assert page.evaluate(f"{drawn}.every((chart) => chart.getAttribute('aria-label').length > 20)")
