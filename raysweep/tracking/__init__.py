"""Shows trainings in other programs: test scores in TensorBoard, and the trackers that `track` names."""
