"""What people of the drawn world wear: one branch a kind of outfit, in a main and an accent colour."""

from __future__ import annotations

import shlex

from PIL import ImageDraw


def draw_bare_body(draw: ImageDraw.ImageDraw, x: int, y: int, skin: str, seam: str, *, swimwear: bool) -> None:
    """An undressed paper doll: plain skin, dotted seams and paper tabs, no anatomy; or the same in a swimsuit."""
    torso(draw, x, y, skin)
    if swimwear:
        draw.polygon(
            (
                x - 34,
                y + 66,
                x - 24,
                y + 66,
                x - 18,
                y + 92,
                x + 18,
                y + 92,
                x + 24,
                y + 66,
                x + 34,
                y + 66,
                x + 50,
                y + 180,
                x - 50,
                y + 180,
            ),
            fill="#2060d8",
        )
        for stripe in (108, 128, 148):
            draw.line((x - 42, y + stripe, x + 42, y + stripe), fill="white", width=7)
        return
    for side in (-1, 1):  # the white tabs that a paper dress would fold around
        draw.rectangle((x + side * 56 - 8, y + 52, x + side * 56 + 8, y + 68), fill="#fdfdfd", outline=seam, width=2)
        for k in range(5):
            cy = y + 84 + 14 * k
            draw.ellipse((x + side * 44 - 4, cy - 4, x + side * 44 + 4, cy + 4), fill=seam)
    draw.ellipse((x - 4, y + 126, x + 4, y + 134), fill=seam)


def torso(draw: ImageDraw.ImageDraw, x: int, y: int, colour: str) -> None:
    """Shoulders and chest in one colour."""
    draw.rounded_rectangle((x - 74, y + 62, x + 74, y + 220), 34, fill=colour)


def draw_outfit(draw: ImageDraw.ImageDraw, outfit: str, x: int, y: int) -> None:
    """Draw `kind colour accent` on a body whose head is centred at (x, y).

    Raises:
        ValueError: an unknown kind of outfit.
    """
    kind, main, accent = shlex.split(outfit)
    torso(draw, x, y, main)
    neck = (x - 20, y + 60, x + 20, y + 60, x, y + 84)
    bottom = y + 190

    def collar(colour: str) -> None:
        draw.polygon((x - 24, y + 60, x, y + 84, x - 30, y + 92), fill=colour)
        draw.polygon((x + 24, y + 60, x, y + 84, x + 30, y + 92), fill=colour)

    def buttons(colour: str, dx: int = 0) -> None:
        for k in range(4):
            draw.ellipse((x + dx - 5, y + 92 + 18 * k, x + dx + 5, y + 102 + 18 * k), fill=colour)

    if kind == "tee":
        draw.ellipse((x - 24, y + 50, x + 24, y + 74), fill=accent)
    elif kind == "coat":
        draw.polygon((x - 26, y + 60, x + 26, y + 60, x, y + 150), fill=accent)
        draw.line((x - 26, y + 60, x, y + 150, x, bottom), fill="#a0a8b0", width=4)
        draw.line((x + 26, y + 60, x, y + 150), fill="#a0a8b0", width=4)
        draw.rectangle((x - 54, y + 112, x - 28, y + 118), fill="#a0a8b0")
    elif kind == "tunic":
        draw.polygon((x - 24, y + 60, x + 24, y + 60, x, y + 96), fill=accent)
        draw.rectangle((x - 52, y + 108, x - 24, y + 114), fill=accent)
    elif kind == "shirt":
        collar(accent)
        draw.line((x, y + 84, x, bottom), fill=accent, width=5)
        draw.rectangle((x - 50, y + 104, x - 24, y + 126), outline=accent, width=4)
    elif kind == "hoodie":
        draw.arc((x - 42, y + 36, x + 42, y + 92), 10, 170, fill=accent, width=14)
        draw.line((x - 12, y + 90, x - 12, y + 122), fill="white", width=4)
        draw.line((x + 12, y + 90, x + 12, y + 122), fill="white", width=4)
    elif kind == "suit":
        draw.polygon((x - 30, y + 60, x + 30, y + 60, x, y + 146), fill="#f6f6f4")
        draw.polygon((x - 8, y + 64, x + 8, y + 64, x + 10, y + 126, x, y + 140, x - 10, y + 126), fill=accent)
    elif kind == "cardigan":
        draw.polygon((x - 28, y + 60, x + 28, y + 60, x + 10, bottom, x - 10, bottom), fill=accent)
        buttons(accent, dx=20)
    elif kind == "robe":
        draw.polygon((x - 26, y + 58, x + 26, y + 58, x + 12, bottom, x - 12, bottom), fill=accent)
        draw.line((x - 44, y + 66, x - 30, bottom), fill=accent, width=4)
        draw.line((x + 44, y + 66, x + 30, bottom), fill=accent, width=4)
    elif kind == "vest":
        draw.polygon((x - 36, y + 60, x + 36, y + 60, x, y + 130), fill=accent)
        draw.rectangle((x - 74, y + 90, x - 50, bottom), fill=accent)
        draw.rectangle((x + 50, y + 90, x + 74, bottom), fill=accent)
        buttons(accent)
    elif kind == "jacket":
        collar(accent)
        buttons(accent, dx=-16)
        buttons(accent, dx=16)
    elif kind == "apron":
        draw.rounded_rectangle((x - 42, y + 84, x + 42, y + 200), 8, fill=accent)
        draw.line((x - 34, y + 62, x - 36, y + 88), fill=accent, width=8)
        draw.line((x + 34, y + 62, x + 36, y + 88), fill=accent, width=8)
    elif kind == "stripes":
        for k in range(-60, 61, 24):
            draw.rectangle((x + k - 6, y + 70, x + k + 6, bottom), fill=accent)
    elif kind == "overalls":
        torso(draw, x, y, accent)
        draw.rectangle((x - 40, y + 98, x + 40, bottom), fill=main)
        for side in (-1, 1):
            draw.line((x + side * 34, y + 62, x + side * 34, y + 104), fill=main, width=14)
            draw.ellipse((x + side * 34 - 5, y + 98, x + side * 34 + 5, y + 108), fill="#f0d060")
    elif kind == "raincoat":
        collar(accent)
        draw.line((x, y + 84, x, bottom), fill=accent, width=6)
        buttons(accent, dx=14)
        draw.rectangle((x - 56, y + 120, x - 26, y + 128), fill=accent)
    elif kind == "plaid":
        for k in range(-60, 61, 24):
            draw.line((x + k, y + 66, x + k, bottom), fill=accent, width=6)
        for k in range(80, 180, 24):
            draw.line((x - 72, y + k, x + 72, y + k), fill=accent, width=6)
    elif kind == "hivis":
        for side in (-1, 1):
            draw.line((x + side * 36, y + 64, x + side * 36, bottom), fill=accent, width=13)
        draw.line((x - 72, y + 128, x + 72, y + 128), fill=accent, width=13)
    elif kind == "smock":
        draw.polygon(neck, fill=accent)
        for ex, ey in ((-44, 100), (20, 92), (-10, 124), (34, 130)):
            draw.ellipse((x + ex - 8, y + ey - 8, x + ex + 8, y + ey + 8), fill=accent)
    elif kind == "uniform":
        draw.polygon(neck, fill="#f4f4f4")
        draw.polygon((x - 5, y + 70, x + 5, y + 70, x, y + 108), fill="#10141e")
        for side in (-1, 1):
            draw.rectangle((x + side * 56 - 14, y + 62, x + side * 56 + 14, y + 74), fill=accent)
        buttons(accent, dx=18)
    elif kind == "camo":
        for ex, ey, r in ((-52, 84, 15), (-18, 104, 13), (22, 88, 15), (50, 112, 14), (-40, 132, 14), (8, 136, 15)):
            draw.ellipse((x + ex - r, y + ey - 9, x + ex + r, y + ey + 9), fill=accent)
    elif kind == "scarf":
        draw.rounded_rectangle((x - 28, y + 56, x + 28, y + 76), 10, fill=accent)
        draw.polygon((x + 14, y + 70, x + 36, y + 64, x + 40, y + 112), fill=accent)
    elif kind == "sailor":
        draw.polygon((x - 46, y + 62, x + 46, y + 62, x, y + 124), fill=accent)
        draw.polygon((x - 20, y + 60, x + 20, y + 60, x, y + 94), fill="white")
        draw.polygon((x - 12, y + 112, x + 12, y + 112, x + 8, y + 150, x - 8, y + 150), fill="#c82838")
    elif kind == "space":
        draw.ellipse((x - 40, y + 50, x + 40, y + 84), outline=accent, width=9)
        draw.rectangle((x - 36, y + 100, x + 20, y + 138), fill="#9098a4")
        for k, c in enumerate(("#f04040", "#40c060", "#4080f0")):
            draw.ellipse((x - 30 + 16 * k, y + 108, x - 20 + 16 * k, y + 118), fill=c)
    elif kind == "sports":
        draw.polygon(neck, fill=accent)
        draw.line((x - 70, y + 84, x - 50, bottom), fill=accent, width=10)
        draw.line((x + 70, y + 84, x + 50, bottom), fill=accent, width=10)
        draw.line((x - 14, y + 100, x + 12, y + 100, x - 6, y + 140), fill=accent, width=10)
    elif kind == "tutu":
        draw.polygon((x - 84, y + 190, x - 40, y + 116, x + 40, y + 116, x + 84, y + 190), fill=accent)
        draw.arc((x - 34, y + 40, x + 34, y + 96), 10, 170, fill=accent, width=8)
    elif kind == "sequin":
        for j in range(5):
            for k in range(-60, 61, 20):
                draw.ellipse(
                    (x + k - 4 + 10 * (j % 2), y + 78 + 18 * j, x + k + 4 + 10 * (j % 2), y + 86 + 18 * j), fill=accent
                )
    elif kind == "leather":
        draw.polygon((x - 28, y + 60, x + 28, y + 60, x + 4, bottom, x - 4, bottom), fill="#f0f0f0")
        draw.line((x - 30, y + 62, x - 48, y + 96, x - 4, y + 120), fill=accent, width=5)
        draw.line((x + 30, y + 62, x + 48, y + 96, x + 4, y + 120), fill=accent, width=5)
    elif kind == "dots":
        for ex, ey in ((-52, 90), (-20, 108), (22, 92), (52, 112), (-42, 134), (6, 134)):
            draw.ellipse((x + ex - 10, y + ey - 10, x + ex + 10, y + ey + 10), fill=accent)
        draw.rounded_rectangle((x - 42, y + 54, x + 42, y + 72), 9, fill="white")
    elif kind == "ermine":
        draw.rounded_rectangle((x - 64, y + 56, x + 64, y + 92), 18, fill=accent)
        draw.rectangle((x - 12, y + 80, x + 12, bottom), fill=accent)
        for ex, ey in ((-48, 74), (-20, 80), (20, 80), (48, 74), (0, 112), (0, 138)):
            draw.ellipse((x + ex - 4, y + ey - 4, x + ex + 4, y + ey + 4), fill="#16161a")
    elif kind == "fringe":
        collar(accent)
        for k in range(-60, 61, 12):
            draw.line((x + k, y + 100, x + k, y + 128), fill=accent, width=5)
    elif kind == "wetsuit":
        draw.rounded_rectangle((x - 24, y + 48, x + 24, y + 72), 8, fill=accent)
        draw.line((x, y + 72, x, bottom), fill=accent, width=8)
        draw.line((x - 70, y + 96, x - 46, bottom), fill=accent, width=12)
        draw.line((x + 70, y + 96, x + 46, bottom), fill=accent, width=12)
    else:
        raise ValueError(f"unknown outfit {kind!r} in {outfit!r}")
