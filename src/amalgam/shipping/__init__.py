"""Turn a student into a file that labels tables: ONNX, thresholds, model card, manifest, and `amalgam predict`."""
