"""Damaged JPEGs: what is not decoded is judged as if it were."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainer.data import images
from trainer.data.annotations import BadImage

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "not subsampled": {"subsampling": 0, "quality": 95},
}


def jpeg(mode: str, **settings: object) -> bytes:
    noise = np.random.RandomState(0).randint(0, 256, (48, 70, 3), np.uint8)
    output = io.BytesIO()
    Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1)).convert(mode).save(output, "JPEG", **settings)
    return output.getvalue()


def damaged(whole: bytes, chance: random.Random) -> bytes:
    content = bytearray(whole)
    # Half of the damage to the headers, which are shorter.
    place = chance.randrange(min(700, len(content)) if chance.random() < 0.5 else len(content))
    way = chance.randrange(5)
    if way == 0:
        content[place] ^= 1 << chance.randrange(8)
    elif way == 1:
        del content[place : place + chance.choice((1, 2, 50, len(content)))]
    elif way == 2:
        content[place : place + 2] = bytes((0xFF, chance.randrange(256)))
    elif way == 3:
        content[place:place] = chance.randbytes(chance.choice((1, 2, 50)))
    else:
        other = chance.randrange(len(content))
        content[place:place] = content[other : other + 200]
    return bytes(content)


def decodes(encoded: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "GIF")) as image:
            image.load()
    except Exception:  # Pillow's decoders raise whatever a damaged file makes them meet
        return False
    return True


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_jpeg_is_bad_when_it_cannot_be_decoded(kind: str, mode: str) -> None:
    whole, chance = jpeg(mode, **KINDS[kind]), random.Random(f"{kind} {mode}")
    assert images.inspect(whole).encoded == whole
    verdicts = []
    for _ in range(250):
        encoded = damaged(whole, chance)
        try:
            images.inspect(encoded)
            good = True
        except BadImage as error:
            good = error.problem.kind not in ("corrupt image", "huge image")
        verdicts.append(good)
        assert good == decodes(encoded) or not encoded, encoded.hex()
    assert 25 < sum(verdicts) < 225  # both kinds of damage were met
