"""What the recursive estimator of the body schema can be told."""

from dataclasses import dataclass, field

from ideomotor.body.articulation import ArticulationConfig
from ideomotor.body.fit import FitConfig
from ideomotor.body.slip import SlipConfig
from ideomotor.config import Config, value


@dataclass(frozen=True, kw_only=True)
class EstimatorConfig(Config):
    """The recursive estimator."""

    max_frames: int = value(120, "Frames kept.", ge=20, le=1000)
    refit_every: int = value(3, "Frames between two fits.", ge=1, le=100)
    min_frames: int = value(15, "Frames before an extension is given.", ge=3, le=1000)
    detector_bias: float = value(
        0.004, "Standard deviation of the detector's error that no motion averages out [m].", ge=0.0, le=0.1
    )
    tip_bias: float = value(0.002, "The same of the tip alone, the best seen keypoint [m].", ge=0.0, le=0.1)
    even_keypoints: bool = value(True, "Keypoints divide the object's centre line evenly, the last one is its tip.")
    max_tip_std: float = value(0.012, "An extension is given when the tip is known so well [m].", ge=1e-4, le=1.0)
    min_inlier_ratio: float = value(0.4, "An extension is given when so many keypoints agree.", ge=0.0, le=1.0)
    min_confidence: float = value(0.3, "Median confidence below which the object is not seen.", ge=0.0, le=1.0)
    drop_time: float = value(
        1.5, "The object is gone when no keypoint was seen in its place for so long [s].", ge=0.05, le=60.0
    )
    rest_share: float = value(0.25, "What time counts for that while the view stays the same.", ge=0.0, le=1.0)
    recover_time: float = value(
        3.0, "After a slip, the object is gone when no estimate is good for so long [s].", ge=0.1, le=60.0
    )
    reach: float = value(0.5, "A held object has a keypoint this near to the ee frame [m].", ge=0.05, le=10.0)
    find_joints: bool = value(True, "Look for a joint inside the object.")
    selection_frames: int = value(90, "Frames used to look for a joint.", ge=10, le=1000)
    selection_steps: int = value(3, "Gauss-Newton steps of the joint selection a frame.", ge=1, le=100)


@dataclass(frozen=True)
class EstimatorConfigs:
    """All configurations of the estimator."""

    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    articulation: ArticulationConfig = field(default_factory=ArticulationConfig)
    slip: SlipConfig = field(default_factory=SlipConfig)
