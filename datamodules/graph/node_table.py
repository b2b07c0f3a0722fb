"""Tables of nodes: a node a line, its id in the first column."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.large_tables import Heading, PlainTable, read_plain, read_table
from trellis.datamodules.engine.tables import Row, parsed_rows, read_numbers


class NodeTable:
    """A table with a header and a line for each node.

    Args:
        path: of the table.
        label: a column that there has to be; ``None``: none.
        texts: columns of texts beside the ids and the labels.
        option: that gave the path.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger than the free memory; or no header, no nodes, no features, or a
            line of another length: names it.
    """

    def __init__(
        self, path: Path, label: str | None, texts: Sequence[str] = (), option: str = "nodes"
    ) -> None:
        self.path, self._rows = path, list[Row]()
        raw = read_table(path, option)
        self._plain: PlainTable | None = read_plain(
            raw, lambda cells: Heading(cells, {cells[0], label or "", *texts})
        )
        if self._plain is None:
            rows = parsed_rows(raw, str(path))
            if len(rows) < 2:
                raise ValueError(f"{path}: give a header and one line per node")
            (_, self.header), *self._rows = rows
        else:
            self.header = list(self._plain.names)
        self._check_header(label, texts)
        for line, cells in self._rows:
            if len(cells) != len(self.header):
                raise in_line(path, line, f"{len(cells)} cells for {len(self.header)} columns")

    def _check_header(self, label: str | None, texts: Sequence[str]) -> None:
        header = self.header
        if repeated := [name for name in header if header.count(name) > 1]:
            raise ValueError(f"{self.path}: two columns have the name {repeated[0]!r}: rename one")
        if label is not None and label not in header[1:]:
            raise ValueError(
                f"{self.path}: no column label={label!r} after the id: choose from "
                f"{', '.join(header[1:])}"
            )
        if not {*header[1:]} - {label, *texts}:
            raise ValueError(
                f"{self.path}: no feature columns: add at least one beside id and label"
            )

    @property
    def lines(self) -> Sequence[int]:
        """Of the file, where the nodes stand."""
        return self._plain.lines if self._plain else [line for line, _ in self._rows]

    def texts(self, column: int) -> list[str]:
        """The cells of a column of texts."""
        if self._plain:
            return self._plain.texts(self.header[column])
        return [cells[column] for _, cells in self._rows]

    def numbers(self, columns: Sequence[int]) -> Tensor:
        """Columns of numbers ``[N, columns]``.

        Raises:
            ValueError: a cell is no finite number; names line and column.
        """
        if self._plain:
            return self._plain.numbers([self.header[column] for column in columns])
        return read_numbers(self.path, self.header, self._rows, columns)

    def numbers_where(self, known: Tensor, column: int) -> Tensor:
        """Numbers in a column of texts, in the rows ``known [N]``."""
        texts, lines = self.texts(column), self.lines
        rows = [(lines[row], [texts[row]]) for row in known.nonzero().flatten().tolist()]
        return read_numbers(self.path, [self.header[column]], rows, [0]).flatten()

    def ids(self) -> dict[str, int]:
        """Number of each node by its id.

        Raises:
            ValueError: two nodes have one id; names both lines.
        """
        ids: dict[str, int] = {}
        for number, text in enumerate(self.texts(0)):
            if text in ids:
                first, line = self.lines[ids[text]], self.lines[number]
                problem = f"node id {text!r} is also on line {first}: remove one"
                raise in_line(self.path, line, problem)
            ids[text] = number
        return ids
