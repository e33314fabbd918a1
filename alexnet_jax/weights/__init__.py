"""Weight files of other programs: safetensors, PyTorch, Caffe, StableHLO, Hugging Face."""
