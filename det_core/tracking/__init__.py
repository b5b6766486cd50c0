"""Point tracks: data, files, trackers, the moving subject, pictures of them."""
