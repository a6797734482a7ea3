"""Small data sets in the exact layouts of Oxford-IIIT Pet, PASCAL VOC and COCO, and the commands' answers."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

BREEDS = {1: "Abyssinian", 2: "american_bulldog", 3: "american_pit_bull_terrier"}


def picture(kind: str = "JPEG", size: tuple[int, int] = (60, 40), mode: str = "RGB", seed: int = 0, **options: object) -> bytes:
    """size: width and height."""
    draw = random.Random(seed)
    image = Image.new(mode, size)
    for _ in range(4):
        colour = tuple(draw.randrange(256) for _ in image.getbands())
        ImageDraw.Draw(image).rectangle((draw.randrange(30), draw.randrange(20), 50, 35), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def xml(*objects: str, size: tuple[int, int] = (60, 40), folder: str = "VOC2012", name: str = "x") -> str:
    return (
        f"<annotation>\n\t<folder>{folder}</folder>\n\t<filename>{name}.jpg</filename>\n"
        "\t<source><database>The VOC2007 Database</database></source>\n"
        f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
        f"\t<segmented>0</segmented>\n{''.join(objects)}</annotation>\n"
    )


def xml_object(
    name: str, xmin: object, ymin: object, xmax: object, ymax: object, difficult: int = 0, truncated: int = 0
) -> str:
    return (
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Left</pose>\n\t\t<truncated>{truncated}</truncated>\n"
        f"\t\t<difficult>{difficult}</difficult>\n\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n"
        "\t\t<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>\n\t</object>\n"
    )


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def voc(folder: Path, sets: dict[str, int], year: str = "2012") -> Path:
    """sets: how many images of each. Each holds a dog, every second a difficult, truncated cat."""
    root = folder / f"VOC{year}"
    number = 0
    for name, count in sets.items():
        names = []
        for _ in range(count):
            number += 1
            names.append(f"{year}_{number:06d}")
            put(root / "JPEGImages" / f"{names[-1]}.jpg", picture(seed=number))
            cat = xml_object("cat", 20, 5, 60, 40, 1, 1) if number % 2 else ""
            text = xml(xml_object("dog", 1, 1, 30, 20), cat, folder=f"VOC{year}", name=names[-1])
            put(root / "Annotations" / f"{names[-1]}.xml", text)
        put(root / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{word}\n" for word in names))
        put(root / "ImageSets" / "Main" / f"dog_{name}.txt", "".join(f"{word}  1\n" for word in names))
    return folder


def pets(folder: Path, trainval: int = 10, test: int = 4) -> Path:
    """So many images of each breed. The face is at x 11–20, y 6–15 (counted from 1), the body at x 5–40, y 3–30 (from 0)."""
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for number, breed in BREEDS.items():
        for index in range(trainval + test):
            name = f"{breed}_{index + 1}"
            split = "trainval" if index < trainval else "test"
            species = 1 if breed[0].isupper() else 2
            lines[split].append(f"{name} {number} {species} {number}\n")
            put(folder / "images" / f"{name}.jpg", picture(seed=number * 100 + index))
            if split == "trainval":
                face = xml_object("cat" if species == 1 else "dog", 11, 6, 20, 15)
                put(folder / "annotations" / "xmls" / f"{name}.xml", xml(face, name=name, folder="OXIIIT"))
            trimap = Image.new("L", (60, 40), 2)
            ImageDraw.Draw(trimap).rectangle((5, 3, 39, 29), fill=3)
            ImageDraw.Draw(trimap).rectangle((7, 5, 37, 27), fill=1)
            path = folder / "annotations" / "trimaps" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            trimap.save(path)
            put(path.with_name(f"._{name}.png"), b"\x00\x05\x16\x07")  # as in the published archive
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n#SPECIES: 1:Cat 2:Dog\n"
    put(folder / "annotations" / "list.txt", head + "".join(lines["trainval"] + lines["test"]))
    for split, text in lines.items():
        put(folder / "annotations" / f"{split}.txt", "".join(text))
    return folder


def coco(folder: Path, sets: dict[str, int], **changes: object) -> Path:
    """Categories 1 person and 90 toothbrush; each image has a person, every second a crowd. changes: of the JSON's keys."""
    number = 0
    for name, count in sets.items():
        images, annotations = [], []
        for _ in range(count):
            number += 1
            file_name = f"{number:012d}.jpg"
            put(folder / name / file_name, picture(seed=number))
            images.append({"license": 4, "file_name": file_name, "height": 40, "width": 60, "id": number * 10})
            polygon = [[1.5, 2.5, 20.25, 2.5, 20.25, 12.5]]
            annotations.append(coco_object(number * 100, number * 10, 1, [1.5, 2.5, 18.75, 10.0], 93.75, segmentation=polygon))
            if number % 2:
                counts = {"counts": [2, 40, 5], "size": [40, 60]}
                extra = coco_object(number * 100 + 1, number * 10, 90, [0, 0, 60, 40], 1000, iscrowd=1, segmentation=counts)
                annotations.append(extra)
        content = {
            "info": {"description": "small", "version": "1.0", "year": 2017},
            "licenses": [{"url": "http://example.org", "id": 4, "name": "any"}],
            "images": images,
            "annotations": annotations,
            "categories": [
                {"supercategory": "person", "id": 1, "name": "person"},
                {"supercategory": "indoor", "id": 90, "name": "toothbrush"},
            ],
            **changes,
        }
        put(folder / "annotations" / f"instances_{name}.json", json.dumps(content))
    return folder


def coco_object(number: int, image: int, category: object, bbox: object, area: object = 1.0, **more: object) -> dict:
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": 0, **more}
