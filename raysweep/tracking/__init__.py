"""Shows trainings in other programs: test scores in TensorBoard, and the trackers named in the `track` setting."""
