"""Draw `scene.png`, the picture that the README asks about: a house, the sun and a tree."""

from pathlib import Path

from PIL import Image, ImageDraw


def draw() -> Image.Image:
    """Draw the scene, 480 x 320, drawn four times larger and reduced for smooth edges."""
    image = Image.new("RGB", (1920, 1280), (176, 214, 240))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 920, 1920, 1280), fill=(112, 168, 88))
    pen.ellipse((1440, 120, 1720, 400), fill=(250, 206, 60))
    pen.rectangle((360, 560, 920, 1040), fill=(198, 92, 76))
    pen.polygon(((300, 560), (640, 260), (980, 560)), fill=(112, 60, 52))
    pen.rectangle((580, 760, 720, 1040), fill=(84, 52, 40))
    pen.rectangle((1250, 700, 1310, 1060), fill=(104, 72, 48))
    pen.ellipse((1090, 400, 1470, 800), fill=(58, 124, 66))
    return image.resize((480, 320), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    draw().save(Path(__file__).with_name("scene.png"), optimize=True)
