"""The captioner's process: loads a captioning model, offline, and captions images. `jobs.captioning` starts it.

Tested with transformers 5.23 and without torchvision: BLIP, BLIP-2 (with OPT), GIT and Florence-2, each as a tiny model
with random weights, and BLIP base at full size on a CPU. Not tested, for lack of weights: trained models, BLIP-2 with
T5, and a GPU.
"""
