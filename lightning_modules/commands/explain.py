"""``trellis explain``: which edges and features the prediction for a node rests on."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trellis.lightning_modules.commands.checkpoint_parser import checkpoint_parser

NUM_HOPS, SHOWN = 2, 10


def main(words: list[str]) -> None:
    """Print the edges and features that matter most, and draw the neighbourhood of the node.

    Raises:
        ImportError: matplotlib is missing; says how to install it.
        ValueError: another objective than ``NodeClassification``, no such node, or a picture that
            exists.
    """
    args = _parser().parse_args(words[1:])
    picture = Path(args.picture or f"explanation_{args.node}.png")
    if picture.exists():
        raise ValueError(f"--picture {picture} exists: name another file, or move it")
    # These imports take seconds; a wrong option is answered without them.
    import torch

    from trellis.graph.explanation import explain_node
    from trellis.lightning_modules.commands.text_models import load_as
    from trellis.lightning_modules.graph.edge_inputs import given_edges
    from trellis.lightning_modules.graph.node_classification import NodeClassification

    model = load_as(args.checkpoint, NodeClassification, "cpu")
    data: Any = _data_of(args.checkpoint)
    data.prepare_data()
    data.setup()
    [graph] = data.loader("test")
    names = list(getattr(data, "test_ids", None) or map(str, range(graph.num_nodes)))
    if args.node not in names:
        raise ValueError(f"--node {args.node}: give one of {names[0]} to {names[-1]}")
    node = names.index(args.node)
    edges = given_edges(model.network, graph, model.spec)
    found = explain_node(
        model.network, graph.x, graph.edge_index, node, epochs=args.epochs, kept=SHOWN, edges=edges
    )
    classes = model.spec.classes or [str(n) for n in range(model.spec.out_channels)]
    with torch.no_grad():
        predicted = model.network.eval()(graph.x, graph.edge_index, **edges).argmax(-1)
    title = _report(found, graph, node, names, classes)
    _draw(found, graph, node, names, predicted, title, picture)


def _parser() -> argparse.ArgumentParser:
    parser = checkpoint_parser("explain", __doc__, "of a NodeClassification")
    add = parser.add_argument
    add("--node", required=True, help="its id in the table of nodes, or its number from 0")
    add("--epochs", type=int, default=200, help="steps of the search (200)")
    add("--picture", help="file to draw to (explanation_NODE.png)")
    return parser


def _data_of(checkpoint: str) -> Any:
    """The data module that a checkpoint was trained with."""
    from trellis.lightning_modules.engine.checkpoint import read
    from trellis.lightning_modules.engine.rebuild import rebuilt
    from trellis.lightning_modules.engine.registry import registered_class

    saved = dict(read(checkpoint, weights=False).get("datamodule_hyper_parameters", {}))
    if "_class_path" not in saved:
        raise ValueError(f"{checkpoint} does not say which data it was trained with")
    cls = registered_class(saved["_class_path"], checkpoint)
    return cls(**rebuilt(cls, saved, checkpoint))


def _report(
    found: Any, graph: Any, node: int, names: Sequence[str], classes: Sequence[str]
) -> str:
    best = int(found.probabilities.argmax())
    said = f"node {names[node]}: {classes[best]}, {found.probabilities[best]:.1%}"
    print(f"{said}; {found.probabilities_kept[best]:.1%} from the edges below alone")
    print("edges:")
    for edge in found.edges.argsort(descending=True)[:SHOWN].tolist():
        source, target = graph.edge_index[:, edge].tolist()
        print(f"  {names[source]} -> {names[target]}  {found.edges[edge]:.2f}")
    print("features:")
    for feature in found.features.argsort(descending=True)[:SHOWN].tolist():
        print(f"  {feature}  {found.features[feature]:.2f}")
    return said


def _draw(
    found: Any,
    graph: Any,
    node: int,
    names: Sequence[str],
    predicted: Any,
    title: str,
    picture: Path,
) -> None:
    from trellis.analysis.explanations import explanation_picture
    from trellis.graph.explanation import neighbourhood

    near = neighbourhood(graph.edge_index, node, NUM_HOPS, graph.num_nodes)
    shown = [names[each] for each in near.nodes.tolist()]
    figure = explanation_picture(
        near.edge_index, found.edges[near.edges], shown, predicted[near.nodes], title
    )
    figure.savefig(picture)
    print(f"picture: {picture}")
