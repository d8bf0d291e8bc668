"""Labels for files of responses, by the shipped student on ONNX Runtime, without torch."""
