"""Networks of images, a family a file."""
