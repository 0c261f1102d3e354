"""The smallest networks that the detector's tests run, and the size of their images."""

from ideomotor_learn.body.stages import NetworkConfig

WIDTH, HEIGHT = 96, 64
TINY = NetworkConfig(  # shapes and plumbing
    height=HEIGHT,
    width=WIDTH,
    channels=(4, 6, 8, 8),
    object_channels=(4, 6, 8),
    object_size=16,
    object_window=32.0,
    crop_channels=(4, 6),
    crop_size=8,
    crop_window=8.0,
)
SMALL = NetworkConfig(  # learns something
    height=HEIGHT,
    width=WIDTH,
    channels=(8, 12, 16, 16),
    object_channels=(8, 12, 16),
    object_size=32,
    object_window=64.0,
    crop_channels=(8, 12),
    crop_size=16,
    crop_window=16.0,
)
