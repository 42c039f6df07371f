"""What Snakemake's report shows: figures and tables, with the sections, titles and captions of the run's own report."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from snakemake.io import report

from selfrepair.report.captions import caption_of

FIGURE_SUFFIXES = ["json", "pdf", "svg", "png", "html"]
CAPTIONS = yaml.safe_load(Path("workflow/report/captions.yaml").read_text())
TEMPLATE = "../report/caption.rst"  # as seen from workflow/rules


def figure_files(name: str) -> list[str]:
    """Files of a figure, named without suffix, of which the report shows the SVG."""
    files = {suffix: f"<results>/figures/{name}.{suffix}" for suffix in FIGURE_SUFFIXES}
    return list((files | {"svg": shown(files["svg"])}).values())


def shown(path: str) -> str:
    """Mark an output file for the report, under the section and title of its caption."""
    section, title, _ = caption_of(Path(path), CAPTIONS)
    return report(path, caption=TEMPLATE, category=section, labels={"title": title})


class Caption(Directive):
    """`.. caption:: path` puts in the caption of a figure or table."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [nodes.paragraph(text=caption_of(Path(self.arguments[0]), CAPTIONS).text)]


directives.register_directive("caption", Caption)
