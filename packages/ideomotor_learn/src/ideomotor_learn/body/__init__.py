"""Training of keypoint detectors."""
