"""The body: kinematic chain, camera, keypoints, virtual joints, the extended URDF."""
