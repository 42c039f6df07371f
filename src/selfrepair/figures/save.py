"""Write a chart as specification, print graphic, picture or web page."""

import json
import re
from functools import partial
from pathlib import Path
from string import Template

import altair as alt
import vl_convert

from selfrepair.core.files import write_atomically
from selfrepair.figures.theme import PX_PER_INCH, Panel

DOTS_PER_INCH = 300
GRAPHICS = ("pdf", "svg", "png")
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>body { margin: 1.5rem; background: white; } main { overflow-x: auto; }</style>
</head>
<body>
<main id="figure"></main>
<script>$library</script>
<script>
const actions = {export: true, source: false, compiled: false, editor: false};
vegaEmbed("#figure", $spec, {mode: "vega-lite", renderer: "svg", actions: actions});
</script>
</body>
</html>
""")


def save_chart(chart: Panel, paths: list[Path]) -> None:
    """Write the chart to every path, in the format of its suffix: .json, .pdf, .svg, .png or .html.

    A .json is the Vega-Lite specification with its data, a .png has 300 dots per inch of print, a .html shows the chart
    with tooltips and needs no network. Each file appears whole or not at all.

    Raises:
        ValueError: a suffix is none of these; nothing has been written.
    """
    formats = {path: path.suffix.removeprefix(".") for path in paths}
    if unknown := sorted(set(formats.values()) - {"json", "html", *GRAPHICS}):
        raise ValueError(f"can't write a figure as {', '.join(unknown)}; use .json, .pdf, .svg, .png or .html")
    spec = chart.to_dict()
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    drawn = _renumbered(vl_convert.vegalite_to_svg(spec, vl_version=version))
    for path, form in formats.items():
        rendered = _rendered(spec, drawn, version, form)
        write_atomically(path, partial(Path.write_bytes, data=rendered))


def _rendered(spec: dict, svg: str, version: str, form: str) -> bytes:
    match form:
        case "json":
            return (json.dumps(spec, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
        case "html":
            title = spec["description"].split(":")[0].rstrip(".")
            inline = json.dumps(spec, sort_keys=True).replace("</", "<\\/")
            library = vl_convert.javascript_bundle(vl_version=version)
            return PAGE.substitute(title=title, library=library, spec=inline).encode()
        case "pdf":
            return vl_convert.svg_to_pdf(svg)
        case "png":
            return vl_convert.svg_to_png(svg, scale=DOTS_PER_INCH / PX_PER_INCH)
    return svg.encode()


def _renumbered(svg: str) -> str:
    """Number the ids from 0: Vega counts on from figure to figure of a process, and files shall not depend on that."""
    ids = dict.fromkeys(re.findall(r'\bid="((?:clip|gradient_)\d+)"', svg))
    renamed = {old: old.rstrip("0123456789") + str(index) for index, old in enumerate(ids)}
    return re.sub(r"\b(?:clip|gradient_)\d+\b", lambda match: renamed.get(match[0], match[0]), svg)
