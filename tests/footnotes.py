"""Cells of a generated table: what is fine as it is, else a number whose reason is below."""


class Footnotes:
    """Reasons in the order in which they come, each once.

    Args:
        fine: the text of a cell that needs none.
    """

    def __init__(self, fine: str) -> None:
        self.fine, self.reasons = fine, []

    def cell(self, text: str) -> str:
        """The text, or the number of its reason."""
        if text == self.fine:
            return text
        if text not in self.reasons:
            self.reasons.append(text)
        return f"refused ({self.reasons.index(text) + 1})"

    def lines(self) -> list[str]:
        """Below the table."""
        return [f"{number}. {reason}" for number, reason in enumerate(self.reasons, 1)]
