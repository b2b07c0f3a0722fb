"""Looking at what was learned: tensors in, matplotlib figures out."""

from trellis.analysis.alignments import alignment_picture as alignment_picture
from trellis.analysis.images import image_grid as image_grid
from trellis.analysis.images import image_picture as image_picture
from trellis.analysis.layout import graph_layout as graph_layout
from trellis.analysis.pictures import confusion_matrix as confusion_matrix
from trellis.analysis.pictures import graph_picture as graph_picture
from trellis.analysis.pictures import learning_curves as learning_curves
from trellis.analysis.points import density_picture as density_picture
from trellis.analysis.points import flow_grid_picture as flow_grid_picture
from trellis.analysis.points import scatter_picture as scatter_picture
