"""Step-Video-T2V (StepFun, MIT licence; report arXiv 2502.10248): transformer, video codec, text encoders, sampling."""
