"""From files to MODEL, CLIP, VAE and CONDITIONING; which files there are, and which models motion is learned on."""
