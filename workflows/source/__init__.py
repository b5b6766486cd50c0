"""The descriptions of the workflows; `build.py` writes the JSON files from them."""
