"""What Snakemake's report shows: figures and tables, with the sections, titles and captions of the run's own report."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from snakemake.io import report

FIGURE_SUFFIXES = ["json", "pdf", "svg", "png", "html"]
CAPTIONS = yaml.safe_load(Path("workflow/report/captions.yaml").read_text())
TEMPLATE = "../report/caption.rst"  # as seen from workflow/rules


def figure_files(name: str) -> list[str]:
    """Files of a figure, of which the report shows the SVG.

    Args:
        name: without suffix; it may hold the wildcards `model` and `ablation`.
    """
    files = {suffix: f"<results>/figures/{name}.{suffix}" for suffix in FIGURE_SUFFIXES}
    return list((files | {"svg": shown(files["svg"])}).values())


def shown(path: str) -> str:
    """Mark an output file for the report, under the section and title of its caption."""
    texts = CAPTIONS[kind(path)]
    return report(path, caption=TEMPLATE, category=texts["section"], labels={"title": texts["title"]})


def kind(path: str) -> str:
    """Name of a figure or table without what it is of: key of its caption."""
    return Path(path).name.split(".")[0]


class Caption(Directive):
    """`.. caption:: path` puts in the caption of a figure or table."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        return [nodes.paragraph(text=CAPTIONS[kind(self.arguments[0])]["caption"])]


directives.register_directive("caption", Caption)
