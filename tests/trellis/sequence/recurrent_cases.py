"""torch's own recurrent layers as the reference of a ``RecurrentStack``."""

from torch import nn

from trellis.sequence.recurrent_stack import RecurrentStack

LAYERS = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def torch_layers(stack: RecurrentStack) -> nn.RNNBase:
    """torch's layers with the weights of a stack."""
    weights = stack.rnn.state_dict()
    layers = LAYERS[stack.cell](
        weights["weight_ih_l0"].size(1),
        stack.hidden_size,
        stack.num_layers,
        batch_first=True,
        bidirectional=stack.out_features > stack.hidden_size,
    )
    layers.load_state_dict(weights)
    return layers
