"""Looking at what was learned: tensors in, matplotlib figures out."""

from trellis.analysis.alignments import alignment_picture as alignment_picture
from trellis.analysis.layout import graph_layout as graph_layout
from trellis.analysis.pictures import confusion_matrix as confusion_matrix
from trellis.analysis.pictures import graph_picture as graph_picture
from trellis.analysis.pictures import learning_curves as learning_curves
