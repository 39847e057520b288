"""The captioner's process: loads a captioning model, offline, and writes what it sees. `jobs.captioning` starts it.

What was run: BLIP, BLIP-2 (with OPT), GIT and Florence-2, each as a tiny model with random weights, through this
process, with transformers 5.23 and without torchvision; BLIP base at full size on a CPU. What was not, for want of the
weights: any of them trained, BLIP-2 with T5, and any of them on a card.
"""
