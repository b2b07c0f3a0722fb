"""A small collection in the text format of graph papers."""

from pathlib import Path

import networkx as nx

COUNT = 40


def text(tag=lambda node: node % 3, attributes: bool = False) -> str:
    """Paths and rings of 3 to 6 nodes, labelled 7 and -1."""
    lines = [str(COUNT)]
    for number in range(COUNT):
        size, ring = 3 + number % 4, number % 2
        graph = nx.cycle_graph(size) if ring else nx.path_graph(size)
        lines.append(f"{size} {7 if ring else -1}")
        for node in range(size):
            near = sorted(graph[node])
            more = f" {300 + node}.5 {node}e-3" if attributes else ""
            lines.append(f"{tag(node)} {len(near)} {' '.join(map(str, near))}{more}")
    return "\n".join(lines) + "\n"


def write(folder: Path, content: str, name: str = "TOY") -> Path:
    own = folder / "tu_gin_format" / name
    own.mkdir(parents=True)
    (own / f"{name}.txt").write_text(content)
    return own
