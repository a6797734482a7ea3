"""Scenes: scanned handwritten digits pasted at random places, sizes and colours onto coloured, noisy backgrounds.

Everything is integer arithmetic on numpy's frozen `RandomState` streams and on Pillow's 8-bit resizing, so that the same
seed gives the same pixels on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 128  # pixels, height and width of a scene
DIGITS = (1, 4)  # per scene, both included
DIGIT_SIZE = (28, 56)  # pixels, both included
GAP = 2  # pixels between digits, at least
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_EVERY = 5  # one scan in five of each class is held out

_CONTRAST = 100  # luma steps (of 255) between a digit and what it lies on, at least
_ATTEMPTS = 50  # at placing a digit or choosing a colour before doing with what there is


@dataclass(frozen=True)
class Scan:
    """One scan: `number` in scikit-learn's order, its digit, ink (8, 8) from 0 to 255."""

    number: int
    digit: int
    ink: NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """image (SIZE, SIZE, 3); per digit a box (ymin, xmin, ymax, xmax) in pixels, the digit, the number of its scan."""

    image: NDArray[np.uint8]
    boxes: list[tuple[int, int, int, int]]
    digits: list[int]
    scans: list[int]


def load_scans() -> tuple[list[Scan], list[Scan]]:
    """scikit-learn's 1,797 scans as (train, test). Which is which depends on no seed: no data set mixes with another's test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    parts: tuple[list[Scan], list[Scan]] = [], []
    seen = [0] * 10
    for number, (pixels, digit) in enumerate(zip(data.images, data.target, strict=True)):
        ink = np.minimum(pixels.astype(np.int64) * 16, 255).astype(np.uint8)
        parts[seen[digit] % TEST_EVERY == TEST_EVERY - 1].append(Scan(number, int(digit), ink))
        seen[digit] += 1
    return parts


def compose(random: np.random.RandomState, scans: Sequence[Scan]) -> Scene:
    """Draws one scene of 1–4 digits that don't touch; a box is the frame of the scan."""
    canvas = _background(random)
    scene = Scene(canvas, [], [], [])
    for _ in range(random.randint(DIGITS[0], DIGITS[1] + 1)):
        # Digits are chosen before scans so that each is equally frequent.
        digit = random.randint(10)
        candidates = [scan for scan in scans if scan.digit == digit]
        scan = candidates[random.randint(len(candidates))]
        box = _place(random, scene.boxes)
        if box is None:
            continue
        _paste(random, canvas, scan.ink, box)
        scene.boxes.append(box)
        scene.digits.append(scan.digit)
        scene.scans.append(scan.number)
    noise = random.randint(0, 17, canvas.shape) + random.randint(0, 17, canvas.shape) - 16
    np.copyto(canvas, np.clip(canvas + noise, 0, 255).astype(np.uint8))
    return scene


def _background(random: np.random.RandomState) -> NDArray[np.uint8]:
    """Soft patches of colour around one muted tone: a few random pixels, enlarged."""
    cells = random.randint(2, 6)
    tone = random.randint(40, 216) + random.randint(-40, 41, 3)
    patches = np.clip(tone + random.randint(-28, 29, (cells, cells, 3)), 0, 255).astype(np.uint8)
    enlarged = Image.fromarray(patches).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.array(enlarged)


def _place(random: np.random.RandomState, boxes: Sequence[tuple[int, int, int, int]]) -> tuple[int, int, int, int] | None:
    for _ in range(_ATTEMPTS):
        size = random.randint(DIGIT_SIZE[0], DIGIT_SIZE[1] + 1)
        top, left = random.randint(0, SIZE - size + 1, 2).tolist()
        box = (top, left, top + size, left + size)
        if not any(_touch(box, other) for other in boxes):
            return box
    return None


def _touch(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] + GAP and b[0] < a[2] + GAP and a[1] < b[3] + GAP and b[1] < a[3] + GAP


def _paste(random: np.random.RandomState, canvas: NDArray[np.uint8], ink: NDArray[np.uint8], box: tuple[int, ...]) -> None:
    top, left, bottom, right = box
    mask = Image.fromarray(ink).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    alpha = np.array(mask, dtype=np.int32)[..., None]
    under = canvas[top:bottom, left:right].astype(np.int32)
    colour = _ink_colour(random, under.reshape(-1, 3).sum(axis=0) // (under.size // 3))
    canvas[top:bottom, left:right] = ((under * (255 - alpha) + colour * alpha) // 255).astype(np.uint8)


def _ink_colour(random: np.random.RandomState, under: NDArray[np.int32]) -> NDArray[np.int64]:
    """A colour that stands out against `under` in lightness (luma of ITU-R BT.601, in thousandths)."""
    weights = np.array([299, 587, 114])
    for _ in range(_ATTEMPTS):
        colour = random.randint(0, 256, 3)
        if abs(int(weights @ (colour - under))) >= _CONTRAST * 1000:
            return colour
    return np.full(3, 0 if int(weights @ under) > 127_500 else 255)
