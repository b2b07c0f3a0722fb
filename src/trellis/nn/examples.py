"""Old home of ``trellis.checks`` and ``trellis.labels``, until their importers have moved."""

from trellis.checks import check_examples, check_labels, num_entries
from trellis.labels import one_hot

__all__ = ["check_examples", "check_labels", "num_entries", "one_hot"]
