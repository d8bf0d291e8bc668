"""What a classification head reads of an encoder's last layer."""

from typing import Literal

# The vector of the first token; the mean of all tokens, at length 1; or the same, drawn to the middle before (its
# components' mean is taken from it), as a layer of the encoder itself can compute it: see pooling_layer.py.
Pooling = Literal["cls", "mean", "centred_mean"]
