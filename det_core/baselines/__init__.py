"""The methods DeT is compared with: LoRA, full fine-tuning, MotionInversion, MotionDirector's loss, Conv3D and local
attention.

Each is a small module that `det_core.training.loop.fit` trains. It either has `attached_to(transformer)`, which
installs it for the length of a `with` block, or is put beside the attention by `det_core.adapter.attach.attach`, as a
motion adapter is.
"""
