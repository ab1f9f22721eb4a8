"""A gate in front of a model server. It speaks the Open Inference Protocol v2 (REST) to its clients."""
