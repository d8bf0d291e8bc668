"""What leaves the project: the student as ONNX in two precisions, its thresholds, its model card and its manifest."""
