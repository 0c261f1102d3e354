# make demo: a robot that extends its body with a tool, on a machine without ROS.   make test: everything checked.
# PYTHON=python3.11 chooses the interpreter of .venv; the ROS 2 of this Makefile is the one in .venv (see CONTRIBUTING.md
# for a machine with ROS 2 installed).
PYTHON ?= python3
IN_ROS := . ros2_ws/install/setup.sh && exec

# The demonstration commands a simulated robot: no real one on the network shall hear it.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
RUN_FOLDER ?= $(CURDIR)/runs/tool_use-$(shell date +%Y%m%d-%H%M%S)
CONTROLLER_FOLDER ?= $(CURDIR)/runs/controller-$(shell date +%Y%m%d-%H%M%S)
REWARD_SEED ?= 1
REWARD_FOLDER ?= $(CURDIR)/runs/reward-$(shell date +%Y%m%d-%H%M%S)

# A ROS installation sourced in the caller's shell must not mix with the one in .venv.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH

.PHONY: setup setup-dev demo demo-reward demo-controller test check bench train-keypoints train-solo12 lock clean
.DEFAULT_GOAL := demo

setup:             ## .venv with the pinned packages, ros2_ws built
	@$(PYTHON) tools/setup.py

setup-dev:         ## the same with what trains, tests and checks
	@$(PYTHON) tools/setup.py test

demo: setup        ## one episode of tool use; VIEW=1 keeps it running with a viewer in the browser
	@$(IN_ROS) ideomotor up launch/tool_use.launch.xml \
	  run_folder:=$(RUN_FOLDER) record:=true $(if $(VIEW),view:=true)

demo-reward: setup-dev   ## learns a reward from demonstrations and executes it at three speeds (needs torch; about four minutes)
	@. ros2_ws/install/setup.sh && set -e; folder=$(REWARD_FOLDER); \
	ideomotor up launch/record_demonstration.launch.xml folder:=$$folder/demonstrations min_duration:=3 max_duration:=8 \
	  seed:=$(REWARD_SEED); \
	ideomotor up launch/learn_reward.launch.xml demonstrations:=$$folder/demonstrations artefact:=$$folder/reward \
	  run_folder:=$$folder; \
	exec ideomotor up launch/reward_use.launch.xml reward:=$$folder/reward run_folder:=$$folder record:=true \
	  seed:=$(REWARD_SEED)

demo-controller: setup-dev   ## an arm with a load nobody told it of learns to track a motion, from nothing (needs torch; about three minutes)
	@. ros2_ws/install/setup.sh && set -e; folder=$(CONTROLLER_FOLDER); \
	ideomotor up launch/train_controller.launch.xml robot:=iiwa7 run_folder:=$$folder $(if $(VIEW),view:=true); \
	exec ideomotor up launch/policy.launch.xml robot:=iiwa7 policy:=$$folder/policy computed_torque:=true \
	  report:=$$folder/run.json $(if $(VIEW),view:=true)

test: setup-dev    ## checks, then unit, graph, launch and fault tests
	@$(IN_ROS) python tools/test.py

check: setup-dev   ## format, lint, types, import arrows, spelling, Dockerfiles
	@$(IN_ROS) python tools/test.py --check

bench:             ## what the README claims, measured; ANCESTOR=FOLDER, a checkout of LearningToLearn, for outer_step_speedup
	@$(PYTHON) tools/setup.py bench
	@. ros2_ws/install/setup.sh && failed=0; \
	python -m benchmarks.body_schema --json docs/results/body_schema.json || failed=1; \
	python -m benchmarks.rewards $(if $(ANCESTOR),--ancestor $(ANCESTOR)) --json docs/results/rewards.json || failed=1; \
	python -m benchmarks.forward_model_error --json docs/results/forward_model_error.json || failed=1; \
	python -m benchmarks.forward_model_error --parts sac_100x --json docs/results/forward_model_error.json || failed=1; \
	exit $$failed

train-keypoints: setup-dev   ## the committed keypoint detector, from nothing: all stages, then 2 and 3 alone (about two hours)
	@. ros2_ws/install/setup.sh && set -e; \
	python -m ideomotor_sim.dataset --out runs/keypoints-train --count 48000 --seed 0 \
	  --tools stick hammer hammer l l spatula spatula hinged_stick sliding_rod ball t; \
	python -m ideomotor_sim.dataset --out runs/keypoints-eval --count 512 --seed 10000000; \
	ideomotor train keypoints --data runs/keypoints-train --held-out runs/keypoints-eval --runs runs/keypoints-all \
	  --out runs/keypoints-all/artefact --steps 10000 --threads 1; \
	ideomotor train keypoints --data runs/keypoints-train --held-out runs/keypoints-eval --threads 1 \
	  --init "$$(ls -d runs/keypoints-all/keypoints-* | tail -n 1)/checkpoint.safetensors" \
	  --freeze-coarse --losses crops --learning-rate 0.001 --steps 9000

train-solo12: setup-dev      ## the committed walking policy, from nothing: target motions, then 29 runs of 0.8 s (some minutes)
	@. ros2_ws/install/setup.sh && set -e; \
	python -m ideomotor_sim.gait --urdf urdf/solo12.urdf.xacro --out artefacts/motions; \
	ideomotor train controller --task solo12_walk --iterations 29 --seed 100 --out artefacts/solo12_walk

lock:              ## renew constraints.txt after a change of requirements*.txt or a pyproject.toml
	@tools/lock.sh

clean:             ## what set-up made; runs/ stays
	rm -rf .venv ros2_ws/build ros2_ws/install ros2_ws/log
