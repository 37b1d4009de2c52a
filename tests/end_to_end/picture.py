"""Requires that picture.py LIGHT.png DARK.png are pictures of a page: drawn, and in the colours that were asked for."""
import sys

from PIL import Image

for path, is_light in zip(sys.argv[1:], (lambda mean: mean > 200, lambda mean: mean < 80)):
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    colors = pixels.getcolors(maxcolors=pixels.width * pixels.height)
    most = max(count for count, _ in colors) / (pixels.width * pixels.height)
    gray = pixels.convert("L").histogram()
    mean = sum(value * count for value, count in enumerate(gray)) / sum(gray)
    assert len(colors) > 200 and most < 0.9, f"{path} is blank: {len(colors)} colours, {most:.0%} of it in one"
    assert is_light(mean), f"{path} has a mean brightness of {mean:.0f}"
