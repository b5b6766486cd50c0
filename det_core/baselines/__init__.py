"""The methods DeT is compared with: LoRA, full fine-tuning, MotionInversion, MotionDirector's loss.

Each is a small module that `det_core.train.fit` trains: it has `attached_to(transformer)`, which installs it for the
length of a `with` block.
"""
