"""What a classification head reads of an encoder's last layer."""

from typing import Literal

Pooling = Literal["cls", "mean"]  # the vector of the first token, or the mean of all tokens
