"""Graph of the rules, fit to be read: `snakemake --rulegraph dot ... | python workflow/lib/rule_graph.py | dot -Tsvg`.

Rules that draw a figure are one node and those that write a table another, `all` is left out, and so is every arrow
that a longer way implies. Colours stand for the environments in which the rules run.
"""

import re
import sys

from workflow_rules import workflow_rules

Edges = set[tuple[str, str]]
GROUPS = {"figure_": "figure_*", "table_": "table_*"}
COLOURS = {
    "measure": "#dbe9f6",
    "analyse": "#e2f0d9",
    "draw": "#fdebd0",
    "typeset": "#eadcf4",
    "train": "#eeeeee",
}
HEAD = """digraph rules {
    rankdir=TB; bgcolor=white; nodesep=0.2; ranksep=0.35;
    node [shape=box, style="rounded,filled", color="#666666", fontname="Helvetica,Arial,sans-serif", fontsize=11];
    edge [color="#888888", arrowsize=0.6];
"""


def read_edges(dot: str) -> Edges:
    """Pairs of rules, the first one before the second, of Snakemake's graph."""
    names = dict(re.findall(r"^\s*(\d+)\[label = \"(\w+)\"", dot, re.MULTILINE))
    return {(names[a], names[b]) for a, b in re.findall(r"^\s*(\d+) -> (\d+)$", dot, re.MULTILINE)}


def readable(edges: Edges) -> Edges:
    """The graph with groups of rules as one node, without `all` and without what follows from other arrows."""
    merged = {(group(a), group(b)) for a, b in edges if b != "all"}
    merged = {(a, b) for a, b in merged if a != b}
    return {(a, b) for a, b in merged if not any(_reaches(c, b, merged) for d, c in merged if d == a and c != b)}


def to_dot(edges: Edges, environments: dict[str, str]) -> str:
    """Text for Graphviz; environments by rule."""
    colours = {group(rule): COLOURS[kind] for rule, kind in environments.items()}
    nodes = [f'    "{name}" [fillcolor="{colours[name]}"];' for name in sorted({n for edge in edges for n in edge})]
    arrows = [f'    "{a}" -> "{b}";' for a, b in sorted(edges)]
    return "\n".join([HEAD.rstrip(), *nodes, *arrows, "}", ""])


def group(rule: str) -> str:
    """Name of the node that stands for a rule."""
    return next((group for prefix, group in GROUPS.items() if rule.startswith(prefix)), rule)


def _reaches(start: str, end: str, edges: Edges) -> bool:
    return start == end or any(_reaches(b, end, edges) for a, b in edges if a == start)


if __name__ == "__main__":
    environments = {rule.name: rule.environment for rule in workflow_rules()}
    sys.stdout.write(to_dot(readable(read_edges(sys.stdin.read())), environments))
